"""From prediction rows to a row of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

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
