"""Choose the images that a page shows, when there are more than a browser would open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray


def choose_shown(leaves: Sequence[int], probabilities: Sequence[float], limit: int) -> list[int]:
    """Choose at most ``limit`` images, so that rare leaves are not crowded out.

    Every leaf gives one image in turn until there are enough. The images of a leaf are spread
    evenly from its most to its least probable path.

    Args:
        leaves: number of the leaf of each image.
        probabilities: probability of the path of each image, 0 to 1.

    Returns:
        Positions of the chosen images, the most probable path first; equally probable ones in
        their order.
    """
    ranked = np.argsort(-np.asarray(probabilities), kind="stable")
    if len(ranked) > limit:
        leaf_of = np.asarray(leaves)[ranked]
        shares = _share_out(Counter(leaf_of.tolist()), limit)
        places = [_spread(np.flatnonzero(leaf_of == leaf), count) for leaf, count in shares.items()]
        ranked = ranked[np.sort(np.concatenate(places))]
    positions: list[int] = ranked.tolist()
    return positions


def _share_out(sizes: Mapping[int, int], limit: int) -> dict[int, int]:
    """Give one place to each leaf in turn, the most frequent first, until all are given."""
    leaves = sorted(sizes, key=lambda leaf: (-sizes[leaf], leaf))
    in_turn = (leaf for turn in range(limit) for leaf in leaves if turn < sizes[leaf])
    return Counter(islice(in_turn, limit))


def _spread(pool: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Take ``count`` items at even steps, the first and the last among them."""
    return pool[np.linspace(0, len(pool) - 1, count).round().astype(int)]
