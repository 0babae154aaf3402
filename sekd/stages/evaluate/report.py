"""From prediction rows to metrics, and from metrics to a table for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sekd.config import EvaluateSpec
from sekd.data.paths import paths_of
from sekd.data.predictions import NO_CONTROL, scored_rows
from sekd.data.taxonomy import Taxonomy
from sekd.stages.evaluate.metrics import Outcomes, score


def outcomes_of(rows: pa.Table, taxonomy: Taxonomy) -> Outcomes:
    """Outcomes of one model, dataset and paradigm.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, joined by (sample_id, level).
    """
    return Outcomes.of(paths_of(rows, taxonomy))


def metrics_row(
    rows: pa.Table, taxonomy: Taxonomy, spec: EvaluateSpec, names: Mapping[str, Any]
) -> dict[str, Any]:
    """One row of ``metrics.json``: ``names`` (model, dataset, paradigm, ...) and every metric.

    Args:
        rows: of one cell. Of several rotations the worst counts at each level, and ``tice`` is
            null: such a path was put together, no model gave it.
    """
    scored = scored_rows(rows)
    scores = score(
        outcomes_of(scored, taxonomy),
        alpha=spec.alpha,
        num_bootstrap=spec.num_bootstrap,
        seed=spec.seed,
    )
    if len(scored) < len(rows):
        scores["tice"] = None
    return {**names, **scores}


def render_table(rows: Sequence[Mapping[str, Any]], level_names: Sequence[str]) -> Table:
    """The table that a reader of the paper wants to see: one line per model and paradigm."""
    table = Table(
        title="Accuracy in percent; HCA: the whole path is right, with its 95 % interval; "
        "cost: computed tokens, in joint passes",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    names, figures = _headings(level_names)
    for heading in names:
        table.add_column(heading, no_wrap=True)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    last: tuple[str, str] | None = None
    for row in rows:
        group = (row["dataset"], row["model"])
        if last is not None and last != group:
            table.add_section()
        last = group
        table.add_row(*_cells(row, len(level_names)))
    return table


def to_markdown(rows: Sequence[Mapping[str, Any]], level_names: Sequence[str]) -> str:
    """The same table in Markdown."""
    names, figures = _headings(level_names)
    lines = [[*names, *figures], ["---"] * len(names) + ["---:"] * len(figures)]
    lines += [_cells(row, len(level_names)) for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _headings(level_names: Sequence[str]) -> tuple[list[str], list[str]]:
    figures = ["HCA", "95 %", "leaf", *level_names, "unparsed", "cost"]
    return ["dataset", "model", "paradigm", "control"], figures


def _cells(row: Mapping[str, Any], num_levels: int) -> list[str]:
    hca = row["hca"]
    levels = [row["level_accuracy"].get(str(level)) for level in range(1, num_levels + 1)]
    relative = (row.get("cost") or {}).get("relative_to_joint") or {}
    control = row.get("control", NO_CONTROL)
    return [
        row["dataset"] + (" (zero-shot)" if row.get("zero_shot") else ""),
        row["model"],
        row["paradigm"],
        "" if control == NO_CONTROL else control,
        f"{hca['value']:.1f}",
        f"{hca['low']:.1f}-{hca['high']:.1f}",
        f"{row['leaf_accuracy']['value']:.1f}",
        *(f"{level['value']:.1f}" if level else "" for level in levels),
        f"{row['parse_failure_rate']['value']:.1f}",
        f"{relative['tokens']:.1f}x" if relative.get("tokens") else "",
    ]
