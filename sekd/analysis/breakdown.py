"""Where a model is right: metrics per subtree, accuracy per node, which node is taken for which.

Everything is ready for JSON: nodes by id and name, rates in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sekd.analysis.metrics import Estimate, Outcomes, score
from sekd.analysis.paths import NOT_PARSED, IntArray, NodeTable, Paths

_KINDS_AT_A_TIME = 1 << 10
_NUM_CONFUSED = 3


def node_fields(nodes: NodeTable, number: int) -> dict[str, Any]:
    """Return ``{"node": id, "name", "level"}``."""
    node = nodes.nodes[number]
    return {"node": node.id, "name": node.name, "level": node.depth}


def score_subtrees(
    paths: Paths, level: int, *, alpha: float = 0.95, num_bootstrap: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Score the samples below each node of a level; all scored levels count, those above it too.

    Args:
        level: of the nodes; a sample that does not reach it is in none of the subtrees.
        alpha: as for :func:`sekd.analysis.metrics.score`.
        num_bootstrap: the same.
        seed: the same.

    Returns:
        In the taxonomy's order ``{"node", "name", "level", "num_samples", "hca": ..., ...}``.

    Raises:
        ValueError: if the level is not scored.
    """
    column = level - paths.first_level
    if not 0 <= column < paths.truth.shape[1]:
        last = paths.first_level + paths.truth.shape[1] - 1
        raise ValueError(f"level {level} is not scored; give {paths.first_level} to {last}")
    at = np.flatnonzero(paths.scored[:, column])
    roots = paths.truth[at, column]
    order = np.argsort(roots, kind="stable")
    numbers, starts = np.unique(roots[order], return_index=True)
    return [
        node_fields(paths.nodes, int(number))
        | score(
            Outcomes.of(paths.take(samples)), alpha=alpha, num_bootstrap=num_bootstrap, seed=seed
        )
        for number, samples in zip(numbers, np.split(at[order], starts[1:]), strict=True)
    ]


def score_nodes(paths: Paths, *, num_bootstrap: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """Score the answers whose truth is a node, for each node that is one.

    Returns:
        In the taxonomy's order ``{"node", "name", "level", "num_samples", "num_unparsed",
        "accuracy": {"value", "low", "high"}, "confused_with": [{"node", "name", "count"}, ...]}``:
        the interval is the bootstrap's over the samples of the node, and the most frequent three
        wrong answers are named.
    """
    truth = paths.truth[paths.scored]
    num_nodes = len(paths.nodes.nodes)
    counts = np.bincount(truth, minlength=num_nodes)
    right = np.bincount(truth[paths.correct[paths.scored]], minlength=num_nodes)
    is_unparsed = paths.prediction[paths.scored] == NOT_PARSED
    unparsed = np.bincount(truth[is_unparsed], minlength=num_nodes)
    numbers = np.flatnonzero(counts)
    low, high = _intervals(right[numbers], counts[numbers], num_bootstrap, seed)
    confused: dict[int, list[dict[str, Any]]] = {}
    pairs = confusions(paths)
    for wrong_of, taken_for, count in zip(*pairs.by_count(), strict=True):
        others = confused.setdefault(wrong_of, [])
        if len(others) < _NUM_CONFUSED:
            node = paths.nodes.nodes[taken_for]
            others.append({"node": node.id, "name": node.name, "count": count})
    return [
        {
            **node_fields(paths.nodes, number),
            "num_samples": int(counts[number]),
            "num_unparsed": int(unparsed[number]),
            "accuracy": Estimate(
                float(100 * right[number] / counts[number]), float(low[i]), float(high[i])
            ).to_json(),
            "confused_with": confused.get(number, []),
        }
        for i, number in enumerate(numbers.tolist())
    ]


@dataclass(frozen=True, eq=False)
class Confusions:
    """Wrong answers as pairs of nodes of one level, each pair once."""

    truth: IntArray
    prediction: IntArray
    count: IntArray

    def by_count(self) -> tuple[list[int], list[int], list[int]]:
        """The same as lists, the most frequent pair first."""
        order = np.argsort(-self.count, kind="stable")
        truth, prediction, count = (a[order] for a in (self.truth, self.prediction, self.count))
        return truth.tolist(), prediction.tolist(), count.tolist()


def confusions(paths: Paths) -> Confusions:
    """Count which node is taken for which; answers that are no node are not in it."""
    is_wrong = paths.scored & ~paths.correct & (paths.prediction >= 0)
    num_nodes = len(paths.nodes.nodes)
    keys = paths.truth[is_wrong].astype(np.int64) * num_nodes + paths.prediction[is_wrong]
    pairs, count = np.unique(keys, return_counts=True)
    return Confusions(*np.divmod(pairs, num_nodes), count)


def _intervals(
    right: IntArray, counts: IntArray, num_bootstrap: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends, in percent, of the bootstrap 95 % interval of each share ``right / counts``.

    Drawing n of n samples, some of them right, gives a binomial number of right ones. Nodes that
    have as many of both share their draws.
    """
    rng = np.random.default_rng(seed)
    kinds, kind = np.unique(np.column_stack([right, counts]), axis=0, return_inverse=True)
    ends = [np.empty((2, 0))]
    for start in range(0, len(kinds), _KINDS_AT_A_TIME):
        num_right, num = kinds[start : start + _KINDS_AT_A_TIME].T
        draws = rng.binomial(num, num_right / num, (num_bootstrap, len(num))) / num
        ends.append(100 * np.percentile(draws, (2.5, 97.5), axis=0))
    low, high = np.concatenate(ends, axis=1)[:, kind.reshape(-1)]
    return low, high
