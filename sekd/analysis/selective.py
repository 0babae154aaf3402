"""Selective accuracy: how right a model is where only its confident answers are kept.

A level of a path is kept where the model gave it at least a threshold's probability. A lower
threshold keeps more (coverage), and those are right less often (accuracy), if confidence means
anything. See El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification"
(JMLR 2010), and Geifman and El-Yaniv (arXiv 1705.08500).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.paths import BoolArray, FloatArray

NUM_POINTS = 20
"""Points of a curve: every twentieth part of the answers, the most confident first."""


@dataclass(frozen=True)
class SelectivePoint:
    """Answers with at least some confidence; all but the count in percent.

    Attributes:
        threshold: lowest confidence of an answer that is kept.
        coverage: share of the samples with this level whose answer is kept.
        accuracy: share of the answers kept that are right.
        num_answers: number of answers kept.
    """

    threshold: float
    coverage: float
    accuracy: float
    num_answers: int


@dataclass(frozen=True)
class SelectiveCurve:
    """Accuracy against coverage at one level, from few confident answers to all of them."""

    points: Sequence[SelectivePoint]

    def to_json(self) -> list[dict[str, Any]]:
        """Return an entry of ``selective`` in ``metrics.json``."""
        return [asdict(point) for point in self.points]

    @classmethod
    def from_json(cls, content: Sequence[Mapping[str, Any]]) -> SelectiveCurve:
        """Read what :meth:`to_json` returns."""
        return cls([SelectivePoint(**each) for each in content])


def selective_curves(rows: pa.Table) -> dict[int, SelectiveCurve]:
    """Measure accuracy against coverage by level, where a paradigm gives whole paths.

    The confidence is the probability of the path down to the level. A paradigm that gives none has
    no curve: the probability of a level's option alone is not that of the answers above it.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, of one cell.
    """
    if "path_logprob" not in rows.column_names:
        return {}
    levels = rows["level"].to_numpy()
    confidence = np.exp(rows["path_logprob"].to_numpy().astype(np.float64))
    is_right = pc.fill_null(pc.equal(rows["prediction"], rows["truth"]), False).to_numpy()
    curves = {}
    for level in np.unique(levels).tolist():
        is_here = levels == level
        curve = _curve_of(confidence[is_here], is_right[is_here])
        if curve.points:
            curves[level] = curve
    return curves


def _curve_of(confidence: FloatArray, is_right: BoolArray) -> SelectiveCurve:
    """Keep every twentieth part of the answers more, together with those of equal confidence."""
    num_samples = len(confidence)
    is_known = ~np.isnan(confidence)
    order = np.argsort(-confidence[is_known], kind="stable")
    ranked, right = confidence[is_known][order], np.cumsum(is_right[is_known][order])
    steps = np.ceil(np.arange(1, NUM_POINTS + 1) * len(ranked) / NUM_POINTS).astype(np.int64)
    # The number of answers that have at least the confidence of the last one of a step.
    counts = np.unique(np.searchsorted(-ranked, -ranked[steps[steps > 0] - 1], side="right"))
    return SelectiveCurve(
        [
            SelectivePoint(
                threshold=float(100 * ranked[count - 1]),
                coverage=100 * count / num_samples,
                accuracy=float(100 * right[count - 1] / count),
                num_answers=int(count),
            )
            for count in map(int, counts)
        ]
    )
