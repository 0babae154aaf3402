"""From prediction rows to metrics, and from metrics to a table for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sekd.config import EvaluateSpec
from sekd.data.taxonomy import Taxonomy
from sekd.stages.evaluate.metrics import Outcomes, score


def outcomes_of(rows: pa.Table, taxonomy: Taxonomy) -> Outcomes:
    """Outcomes of one model, dataset and paradigm.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, joined by (sample_id, level).
    """
    columns = ("sample_id", "level", "truth", "prediction")
    samples: dict[str, dict[int, tuple[str, str | None]]] = {}
    for sample_id, level, truth, prediction in zip(
        *(rows[name].to_pylist() for name in columns), strict=True
    ):
        samples.setdefault(sample_id, {})[level] = (truth, prediction)
    shape = (len(samples), max(max(levels) for levels in samples.values()))
    correct, parsed = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    off_tree = np.zeros(len(samples), dtype=bool)
    for index, levels in enumerate(samples.values()):
        for level, (truth, prediction) in levels.items():
            parsed[index, level - 1] = prediction is not None
            correct[index, level - 1] = prediction == truth
        path = [levels[level][1] for level in sorted(levels)]
        off_tree[index] = any(
            parent is not None and child is not None and taxonomy[child].parent != parent
            for parent, child in pairwise(path)
        )
    num_levels = np.array([len(levels) for levels in samples.values()])
    return Outcomes(correct=correct, parsed=parsed, num_levels=num_levels, off_tree=off_tree)


def metrics_row(
    rows: pa.Table, taxonomy: Taxonomy, spec: EvaluateSpec, names: Mapping[str, Any]
) -> dict[str, Any]:
    """One row of ``metrics.json``: ``names`` (model, dataset, paradigm, ...) and every metric."""
    scores = score(
        outcomes_of(rows, taxonomy),
        alpha=spec.alpha,
        num_bootstrap=spec.num_bootstrap,
        seed=spec.seed,
    )
    return {**names, **scores}


def render_table(rows: Sequence[Mapping[str, Any]], level_names: Sequence[str]) -> Table:
    """The table that a reader of the paper wants to see: one line per model and paradigm."""
    table = Table(
        title="Accuracy in percent; HCA: the whole path is right, with its 95 % interval",
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
    return ["dataset", "model", "paradigm"], ["HCA", "95 %", "leaf", *level_names, "unparsed"]


def _cells(row: Mapping[str, Any], num_levels: int) -> list[str]:
    hca = row["hca"]
    levels = [row["level_accuracy"].get(str(level)) for level in range(1, num_levels + 1)]
    return [
        row["dataset"],
        row["model"],
        row["paradigm"],
        f"{hca['value']:.1f}",
        f"{hca['low']:.1f}-{hca['high']:.1f}",
        f"{row['leaf_accuracy']['value']:.1f}",
        *(f"{level['value']:.1f}" if level else "" for level in levels),
        f"{row['parse_failure_rate']['value']:.1f}",
    ]
