"""What finished cells come to: the content of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pyarrow as pa

from sekd.analysis.cell_metrics import metrics_row
from sekd.analysis.cost import relate_to_joint
from sekd.analysis.diagnosis import compare_predictions, diagnose
from sekd.analysis.solver import solve
from sekd.config import BASE, SOLVER, STUDENT, EvaluateSpec
from sekd.data.predictions import NO_CONTROL, scored_rows, to_table
from sekd.data.samples import Dataset, questions_of
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError, SampleError

_COMPARED = (
    ((STUDENT, "joint"), (BASE, "conditioned")),
    ((STUDENT, "joint"), (BASE, "joint")),
    ((STUDENT, "independent"), (BASE, "independent")),
    ((STUDENT, "conditioned"), (BASE, "conditioned")),
)
"""Model and paradigm: student beside its teacher, what it gained, and what it kept or forgot."""


@dataclass(frozen=True)
class CellRows:
    """A finished cell.

    Attributes:
        names: model, dataset, paradigm and control.
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`.
        cost: means per sample; ``None`` where no model was asked.
    """

    names: Mapping[str, str]
    taxonomy: Taxonomy
    rows: pa.Table
    num_quarantined: int
    cost: dict[str, Any] | None


def solve_options(dataset: Dataset, seed: int) -> CellRows:
    """The control ``taxonomy``: what a solver scores that sees the options and no image."""
    asked, num_unusable = [], 0
    for sample in dataset.samples:
        try:
            asked.append((sample.id, questions_of(dataset, sample) or ()))
        except SampleError:
            num_unusable += 1
    rows = [
        replace(row, control="taxonomy") for row in solve(asked, dataset=dataset.name, seed=seed)
    ]
    names = {"model": SOLVER, "dataset": dataset.name, "paradigm": "options", "control": "taxonomy"}
    return CellRows(names, dataset.taxonomy, to_table(rows), num_unusable, None)


def summarize(
    results: Sequence[CellRows], spec: EvaluateSpec, distilled: Taxonomy
) -> dict[str, Any]:
    """Every metric of every cell, and the student beside the base.

    Args:
        distilled: the taxonomy that the student learned; a dataset with other nodes is zero-shot.

    Raises:
        ConfigError: if a cell has no sample left.
    """
    known = {node.id for node in distilled.nodes}
    metrics = []
    for result in results:
        if not len(result.rows):
            raise ConfigError(
                f"{' '.join(result.names.values())}: all {result.num_quarantined} samples are "
                "quarantined; sekd status --failed says why"
            )
        about = {
            **result.names,
            "zero_shot": any(node.id not in known for node in result.taxonomy.nodes),
            "num_quarantined": result.num_quarantined,
            "cost": result.cost,
        }
        row = metrics_row(result.rows, result.taxonomy, spec, about)
        row["diagnosis"] = diagnose(scored_rows(result.rows), result.taxonomy)
        metrics.append(row)
    relate_to_joint(metrics)
    return {
        "rows": metrics,
        "comparisons": list(_comparisons(results, spec)),
        "root_is_scored": False,
    }


def _comparisons(results: Sequence[CellRows], spec: EvaluateSpec) -> Iterator[dict[str, Any]]:
    plain = {
        (result.names["dataset"], result.names["model"], result.names["paradigm"]): result
        for result in results
        if result.names["control"] == NO_CONTROL
    }
    for dataset, (one, other) in product(dict.fromkeys(key[0] for key in plain), _COMPARED):
        a, b = plain.get((dataset, *one)), plain.get((dataset, *other))
        if a is None or b is None:
            continue
        yield {
            "dataset": dataset,
            "a": {"model": one[0], "paradigm": one[1]},
            "b": {"model": other[0], "paradigm": other[1]},
            **compare_predictions(
                a.rows,
                b.rows,
                a.taxonomy,
                num_bootstrap=spec.num_bootstrap,
                seed=spec.seed,
                alpha=spec.alpha,
            ),
        }
