"""Accuracy by rank, for taxonomies in which a rank stands at several depths.

Where some leaves lack a rank in the middle (a family without an order above it), the third level
holds orders of some paths and families of others, so a level is no rank.
"""

from __future__ import annotations

import numpy as np

from sekd.analysis.estimates import Estimate
from sekd.analysis.intervals import proportion_interval
from sekd.analysis.paths import Paths


def rank_accuracy(paths: Paths) -> dict[str, Estimate]:
    """Return the accuracy at the nodes of each rank, highest rank first.

    Returns:
        Rank -> rate of the samples with a node of it, with Wilson's interval. Empty where each
        rank stands at one depth, so that the accuracy by level says the same.
    """
    nodes = paths.nodes.nodes
    used = np.unique(paths.truth[paths.scored])
    places = {(nodes[number].depth, nodes[number].rank) for number in used.tolist()}
    deepest = {rank: depth for depth, rank in sorted(places)}
    ranks = sorted(deepest, key=deepest.__getitem__)
    if len(ranks) == len(places):
        return {}
    codes = np.array([ranks.index(node.rank) if node.rank in ranks else -1 for node in nodes])
    code_of_truth = codes[paths.truth[paths.scored]]
    num = np.bincount(code_of_truth, minlength=len(ranks))
    num_right = np.bincount(code_of_truth[paths.correct[paths.scored]], minlength=len(ranks))
    low, high = proportion_interval(num_right, num)
    return {
        rank: Estimate(
            100 * float(num_right[i] / num[i]),
            100 * float(low[i]),
            100 * float(high[i]),
            int(num[i]),
        )
        for i, rank in enumerate(ranks)
    }
