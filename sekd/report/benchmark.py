"""The table of gains and losses, for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

_NAMES = ("task", "metric")
_FIGURES = ("samples", "base", "student", "change", "95 %")


def render_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line per metric, in the units of the task."""
    table = Table(
        title="Change from base to student, with its paired bootstrap 95 % interval",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in _NAMES:
        table.add_column(heading, no_wrap=True)
    for heading in _FIGURES:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def benchmark_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same table in Markdown."""
    lines = [[*_NAMES, *_FIGURES, ""], ["---"] * len(_NAMES) + ["---:"] * len(_FIGURES) + ["---"]]
    lines += [_cells(row) for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    metric = row["metric"]
    if row["filter"] != "none":
        metric += f", {row['filter']}"
    if row["higher_is_better"] is False:
        metric += " (lower is better)"
    has_interval = row["low"] is not None
    return [
        row["task"],
        metric,
        _number(row["num_samples"], "d"),
        _number(row["base"], ".4g"),
        _number(row["student"], ".4g"),
        _number(row["change"], "+.3g"),
        f"{row['low']:+.3g} to {row['high']:+.3g}" if has_interval else "",
        row["verdict"] or (f"no interval: {row['no_interval']}" if row["no_interval"] else ""),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
