"""Measure each part of a taxonomy: metrics per subtree, accuracy per node, confusions of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sekd.analysis.estimates import Estimate, MetricValues
from sekd.analysis.intervals import proportion_interval
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import NOT_PARSED, IntArray, NodeTable, Paths
from sekd.analysis.rates import compute_metrics

_NUM_CONFUSED = 3


@dataclass(frozen=True)
class NodeName:
    """A node for a person and for a machine."""

    node: str
    """Its id."""
    name: str
    level: int

    @classmethod
    def of(cls, nodes: NodeTable, number: int) -> NodeName:
        """Name a node by its number."""
        node = nodes.nodes[number]
        return cls(node.id, node.name, node.depth)

    def to_json(self) -> dict[str, Any]:
        """Return ``{"node": ..., "name": ..., "level": ...}``."""
        return asdict(self)


@dataclass(frozen=True)
class SubtreeMetrics:
    """Every metric over the samples below a node."""

    root: NodeName
    metrics: MetricValues[Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return ``{"node", "name", "level", "num_samples", "hca": ..., ...}``."""
        return {**self.root.to_json(), **self.metrics.to_json()}


@dataclass(frozen=True)
class WrongAnswer:
    """A node that is answered instead of the right one, and how often."""

    node: str
    name: str
    count: int


@dataclass(frozen=True)
class NodeAccuracy:
    """The answers whose truth is a node.

    Attributes:
        num_samples: the number of these answers.
        num_unparsed: the number of them that could not be parsed.
        accuracy: with its interval over the samples of the node, each for itself.
        confused_with: the three most frequent wrong answers.
    """

    node: NodeName
    num_samples: int
    num_unparsed: int
    accuracy: Estimate
    confused_with: Sequence[WrongAnswer]

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``nodes`` in the output of ``sekd score --json``."""
        return {
            **self.node.to_json(),
            "num_samples": self.num_samples,
            "num_unparsed": self.num_unparsed,
            "accuracy": self.accuracy.to_json(),
            "confused_with": [asdict(answer) for answer in self.confused_with],
        }


def score_subtrees(paths: Paths, level: int, *, alpha: float = 0.95) -> list[SubtreeMetrics]:
    """Score the samples below each node of a level, at all scored levels, also those above it.

    Args:
        level: level of the nodes; a sample that does not reach it is in none of the subtrees.
        alpha: as for :func:`sekd.analysis.rates.compute_metrics`.

    Returns:
        The subtrees in the taxonomy's order.

    Raises:
        ValueError: if the level is not scored.
    """
    column = level - paths.first_level
    if not 0 <= column < paths.truth.shape[1]:
        last = paths.first_level + paths.truth.shape[1] - 1
        raise ValueError(f"level {level} is not scored; give {paths.first_level} to {last}")
    reaching = np.flatnonzero(paths.scored[:, column])
    roots = paths.truth[reaching, column]
    order = np.argsort(roots, kind="stable")
    numbers, starts = np.unique(roots[order], return_index=True)
    subtrees = zip(numbers.tolist(), np.split(reaching[order], starts[1:]), strict=True)
    return [
        SubtreeMetrics(
            NodeName.of(paths.nodes, number),
            compute_metrics(Outcomes.of(paths.take(samples)), alpha=alpha),
        )
        for number, samples in subtrees
    ]


def score_nodes(paths: Paths) -> list[NodeAccuracy]:
    """Score the answers whose truth is a node, for each node that is a truth.

    Returns:
        The nodes in the taxonomy's order.
    """
    truth = paths.truth[paths.scored]
    num_nodes = len(paths.nodes.nodes)
    counts = np.bincount(truth, minlength=num_nodes)
    right = np.bincount(truth[paths.correct[paths.scored]], minlength=num_nodes)
    is_unparsed = paths.prediction[paths.scored] == NOT_PARSED
    unparsed = np.bincount(truth[is_unparsed], minlength=num_nodes)
    numbers = np.flatnonzero(counts)
    low, high = proportion_interval(right[numbers], counts[numbers])
    confused = _most_frequent_wrong_answers(paths)
    return [
        NodeAccuracy(
            node=NodeName.of(paths.nodes, number),
            num_samples=int(counts[number]),
            num_unparsed=int(unparsed[number]),
            accuracy=Estimate(
                float(100 * right[number] / counts[number]),
                float(100 * low[i]),
                float(100 * high[i]),
                int(counts[number]),
            ),
            confused_with=confused.get(number, []),
        )
        for i, number in enumerate(numbers.tolist())
    ]


def _most_frequent_wrong_answers(paths: Paths) -> dict[int, list[WrongAnswer]]:
    """Return truth -> up to three wrong answers, the most frequent first."""
    wrong_answers: dict[int, list[WrongAnswer]] = {}
    for truth, prediction, count in count_confusions(paths).most_frequent_first():
        of_truth = wrong_answers.setdefault(truth, [])
        if len(of_truth) < _NUM_CONFUSED:
            node = paths.nodes.nodes[prediction]
            of_truth.append(WrongAnswer(node.id, node.name, count))
    return wrong_answers


@dataclass(frozen=True, eq=False)
class Confusions:
    """Wrong answers as pairs of nodes of one level, each pair once."""

    truth: IntArray
    prediction: IntArray
    count: IntArray

    def most_frequent_first(self) -> list[tuple[int, int, int]]:
        """Return (truth, prediction, count) of each pair, the most frequent pair first."""
        order = np.argsort(-self.count, kind="stable")
        pairs = np.column_stack([self.truth, self.prediction, self.count])[order]
        return [(truth, prediction, count) for truth, prediction, count in pairs.tolist()]


def count_confusions(paths: Paths) -> Confusions:
    """Count which node is taken for which; answers that are no node are left out."""
    is_wrong = paths.scored & ~paths.correct & (paths.prediction >= 0)
    num_nodes = len(paths.nodes.nodes)
    codes = paths.truth[is_wrong].astype(np.int64) * num_nodes + paths.prediction[is_wrong]
    pairs, count = np.unique(codes, return_counts=True)
    truth, prediction = np.divmod(pairs, num_nodes)
    return Confusions(truth, prediction, count)
