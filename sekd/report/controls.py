"""Controls: what a figure would be without what it is meant to measure."""

from __future__ import annotations

from collections.abc import Mapping

from sekd.analysis.results import Evaluation
from sekd.data.predictions import NO_CONTROL
from sekd.report.table import Column, Table, Value, group_sizes

CONTROLS: Mapping[str, str] = {
    "blind": "the same questions without the image: what words and options give away",
    "shuffled": "the options in another order: how much hangs on one order",
    "circular": "the options in every rotation, right only where all are: no letter is favoured",
    "siblings": "wrong options of the same parent, so that they do not give the path away",
}
OPTIONS_ALONE = "options alone"
OPTIONS_ALONE_MEANING = "a solver that knows the taxonomy and sees the options, never an image"


def controls_table(results: Evaluation) -> Table:
    """HCA of each controlled cell, plain and under its controls."""
    found = list(
        dict.fromkeys(key.control for key in results.cells if key.control != NO_CONTROL)
    )  # fmt: skip
    rows: list[list[Value]] = []
    for cell in results.plain_cells:
        by_control = {each.key.control: each.rate("hca") for each in results.controls_of(cell.key)}
        floor = results.options_alone(cell.key.dataset)
        if by_control or floor:
            plain = cell.rate("hca")
            rows.append([*cell.key[:3], plain, *map(by_control.get, found), floor])
    columns = [
        Column("hca", "plain", has_interval=True),
        *(Column(f"hca_{name}", name, has_interval=True) for name in found),
        Column("hca_options_alone", OPTIONS_ALONE),
    ]
    names = [Column(name, name) for name in ("dataset", "model", "paradigm")]
    groups = group_sizes(row[:2] for row in rows)
    title = "HCA in percent, plain and under controls, with 95 % intervals"
    return Table("controls", title, [*names, *columns], len(names), rows, groups).shrunk()
