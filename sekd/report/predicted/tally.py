"""Count predicted paths one by one, in little memory: how sure they are, and where they lead."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from sekd.data.path_predictions import PathPrediction, PredictedLevel

BANDS = (0.9, 0.7, 0.5, 0.3, 0.0)
"""Least probability of each band of confidence."""
NO_RANK = "no rank"
"""Stands for the rank of a path of which nothing is trusted."""


@dataclass
class NodeCount:
    """The images whose path leads through a node.

    Attributes:
        level: the node as the first of them has it.
        depth: of the node, from 1.
        total: sum of the probabilities of their paths down to it.
    """

    level: PredictedLevel
    depth: int
    num_images: int = 0
    total: float = 0.0

    @property
    def label(self) -> str:
        """The name, and the common name where there is one."""
        common_name = self.level.common_name
        return f"{self.level.name} ({common_name})" if common_name else self.level.name


class Tally:
    """Counts of predictions; images that failed have no path and are counted by themselves.

    Args:
        max_failures: the number of failures that are kept.

    Attributes:
        failures: the first failures.
        num_trusted: paths that are trusted down to their end.
        outside: probability that a restriction took away, over all images.
        ranks: rank down to which a path is trusted, or :data:`NO_RANK` -> number of images.
        bands: rank -> number of paths down to it in each of :data:`BANDS`, from the top down.
        nodes: id -> count, parents before their children.
        leaves: a number for the last node of each path, the same for the same node.
        probabilities: probability of each path.
    """

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        self.failures: list[PathPrediction] = []
        self.num_failed = self.num_trusted = self.num_calibrated = 0
        self.outside = 0.0
        self.ranks: Counter[str] = Counter()
        self.bands: dict[str, list[int]] = defaultdict(lambda: [0] * len(BANDS))
        self.nodes: dict[str, NodeCount] = {}
        self.leaves, self.probabilities = array("q"), array("d")
        self._numbers: dict[str, int] = {}

    @classmethod
    def of(cls, predictions: Iterable[PathPrediction], max_failures: int) -> Self:
        """Count predictions."""
        tally = cls(max_failures)
        for prediction in predictions:
            tally._add(prediction)
        return tally

    @property
    def num_named(self) -> int:
        """The number of images that have a path."""
        return len(self.probabilities)

    def rank_depth(self, rank: str) -> int:
        """Return the depth of the deepest node of a rank; 0 for :data:`NO_RANK`."""
        depths = [node.depth for node in self.nodes.values() if node.level.rank == rank]
        return max(depths, default=0)

    def _add(self, prediction: PathPrediction) -> None:
        if prediction.error is not None:
            self.num_failed += 1
            if len(self.failures) < self._max_failures:
                self.failures.append(prediction)
            return
        self.num_trusted += prediction.stopped is None
        self.num_calibrated += prediction.is_calibrated
        self.outside += prediction.outside or 0.0
        self.ranks[trusted_rank(prediction)] += 1
        for depth, level in enumerate(prediction.levels, start=1):
            node = self.nodes.setdefault(level.node, NodeCount(level, depth))
            node.num_images += 1
            node.total += level.path_probability
            self.bands[level.rank][_band(level.path_probability)] += 1
        leaf = prediction.levels[-1].node
        self.leaves.append(self._numbers.setdefault(leaf, len(self._numbers)))
        self.probabilities.append(prediction.levels[-1].path_probability)


def trusted_rank(prediction: PathPrediction) -> str:
    """Return the rank down to which a path is trusted."""
    return NO_RANK if prediction.accepted is None else prediction.accepted.rank


def _band(probability: float) -> int:
    return next((i for i, low in enumerate(BANDS) if probability >= low), len(BANDS) - 1)
