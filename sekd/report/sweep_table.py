"""The sweep as a table: the base, its walk, and a line for each variant."""

from __future__ import annotations

from collections.abc import Sequence

from sekd.analysis.results import Evaluation
from sekd.analysis.sweep import FORGOTTEN, REFERENCES, SweepRow, references
from sekd.config import BASE
from sekd.report.table import Column, Table, Value, group_sizes


def sweep_table(results: Evaluation, rows: Sequence[SweepRow]) -> Table:
    """One row per dataset and variant below the base and its teacher's walk."""
    is_single = all(len(row.hca) <= 1 for row in rows)
    lines: list[Sequence[Value]] = []
    for dataset in results.datasets:
        for name, rate in references(results, dataset).items():
            shown = rate if is_single else rate.value
            unparsed = results.rate(dataset, BASE, REFERENCES[name], "parse_failure_rate")
            lines.append(
                [dataset, name, None, shown, None, None, unparsed and unparsed.value, *[None] * 3]
            )
        lines += [_line(row, is_single) for row in rows if row.dataset == dataset]
    spread = (
        "with its 95 % interval over images"
        if is_single
        else "the mean over seeds, the lowest and the highest"
    )
    labels = {dataset: results.title(dataset) for dataset in results.datasets}
    columns = [
        Column("dataset", "dataset", labels=labels),
        Column("variant", "variant"),
        Column("num_seeds", "seeds"),
        Column("hca", "HCA", has_interval=is_single),
        Column("hca_lowest", "lowest"),
        Column("hca_highest", "highest"),
        Column("parse_failure_rate", "unparsed"),
        *(Column(f"{each}_difference", each, is_signed=True) for each in FORGOTTEN),
        Column("num_failed", "failed"),
    ]
    return Table(
        "sweep",
        f"Joint HCA in percent, {spread}; {' and '.join(FORGOTTEN)}: HCA less the base's, points",
        columns,
        2,
        lines,
        group_sizes(line[0] for line in lines),
    ).shrunk()


def _line(row: SweepRow, is_single: bool) -> list[Value]:
    rate = row.over_seeds
    spread: list[Value] = [rate, None, None]
    if rate and not is_single:
        spread = [rate.value, rate.low, rate.high]
    return [
        row.dataset,
        row.variant,
        len(row.hca),
        *spread,
        row.parse_failure_rate,
        *(row.forgotten.get(paradigm) for paradigm in FORGOTTEN),
        row.num_failed or None,
    ]
