"""Choose the images that a page shows, when there are more than a browser would open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

from sekd.data.path_predictions import PathPrediction


def choose_shown(predictions: Sequence[PathPrediction], limit: int) -> list[PathPrediction]:
    """Choose at most ``limit`` predictions, so that rare leaves are not crowded out.

    Every leaf gives one image in turn until there are enough. The images of a leaf are spread
    evenly from its most to its least probable path. The choice does not depend on the order of the
    predictions.

    Args:
        predictions: predictions without those that failed.

    Returns:
        The chosen ones, the most probable path first; equally probable ones by the image's name.
    """
    ranked = sorted(predictions, key=by_probability)
    if len(ranked) <= limit:
        return ranked
    pools: dict[str, list[PathPrediction]] = defaultdict(list)
    for prediction in ranked:
        pools[prediction.levels[-1].node].append(prediction)
    shares = _share_out({leaf: len(pool) for leaf, pool in pools.items()}, limit)
    chosen = [each for leaf, pool in pools.items() for each in _spread(pool, shares[leaf])]
    return sorted(chosen, key=by_probability)


def by_probability(prediction: PathPrediction) -> tuple[float, str]:
    """Sort the most probable path first."""
    return -(prediction.probability or 0.0), prediction.image


def _share_out(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """Give one place to each leaf in turn, the most frequent first, until all are given."""
    leaves = sorted(sizes, key=lambda leaf: (-sizes[leaf], leaf))
    in_turn = (leaf for turn in range(max(sizes.values())) for leaf in leaves if turn < sizes[leaf])
    shares = dict.fromkeys(leaves, 0)
    for leaf in islice(in_turn, limit):
        shares[leaf] += 1
    return shares


def _spread(pool: Sequence[PathPrediction], count: int) -> list[PathPrediction]:
    """Take ``count`` items at even steps, the first and the last among them."""
    if count < 2:
        return list(pool[:count])
    return [pool[round(step * (len(pool) - 1) / (count - 1))] for step in range(count)]
