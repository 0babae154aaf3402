"""From prediction rows to a row of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sekd.analysis.metrics import Outcomes, score
from sekd.analysis.paths import paths_of
from sekd.config import EvaluateSpec
from sekd.data.predictions import scored_rows
from sekd.data.taxonomy import Taxonomy


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
