"""Find images that look alike, by a perceptual hash of their brightness.

The hash is the difference hash (dHash) of N. Krawetz: the image is shrunk to 9 x 9 grey pixels,
and each bit says whether a pixel is darker than its right or its lower neighbour. Scaling,
recompression and small changes of colour keep most of the bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE = 9
MAX_DISTANCE = 7
"""Number of the 128 bits in which two images that look alike may differ. An image with no more bits
than these has no structure to compare."""
_NUM_BANDS = MAX_DISTANCE + 1
HASH_BYTES = 16

# Shapes: N images.


def difference_hash(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the 128 bits of an image, packed into uint8[16]."""
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    right = grey[:-1, :-1] < grey[:-1, 1:]
    lower = grey[:-1, :-1] < grey[1:, :-1]
    return np.packbits(np.concatenate([right.ravel(), lower.ravel()]))


def group_alike(hashes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Put images that differ in at most :data:`MAX_DISTANCE` bits into one group.

    Two such images agree in at least one of ``MAX_DISTANCE + 1`` bands of the bits, so only images
    that share a band are compared. Likeness is passed on: two images of a group may differ in more
    bits if others stand between them.

    Args:
        hashes: uint8[N, 16].

    Returns:
        The number of each image's group, int64[N]. Images without structure are alone.
    """
    distinct, distinct_of = np.unique(hashes, axis=0, return_inverse=True)
    parents = np.arange(len(distinct))
    # An image without structure must not join two others.
    compared = np.flatnonzero(np.bitwise_count(distinct).sum(axis=1) > MAX_DISTANCE)
    for first, second in _pairs_alike(distinct[compared]):
        a, b = _root(parents, int(compared[first])), _root(parents, int(compared[second]))
        parents[max(a, b)] = min(a, b)
    roots = np.array([_root(parents, place) for place in range(len(distinct))], dtype=np.int64)
    groups = roots[distinct_of.reshape(-1)]
    has_no_structure = np.bitwise_count(hashes).sum(axis=1) <= MAX_DISTANCE
    groups[has_no_structure] = len(distinct) + np.flatnonzero(has_no_structure)
    return groups


def _pairs_alike(hashes: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of different hashes that are alike, some of them several times."""
    for band in np.split(hashes, _NUM_BANDS, axis=1):
        keys = band.astype(np.int64) @ (256 ** np.arange(band.shape[1]))
        order = np.argsort(keys, kind="stable")
        ends = np.searchsorted(keys[order], keys[order], side="right")
        places = np.arange(len(order))
        for shift in count(1):  # each with the one behind it, then with the one after next, ...
            places = places[places + shift < ends[places]]
            if not len(places):
                break
            first, second = order[places], order[places + shift]
            distances = np.bitwise_count(hashes[first] ^ hashes[second]).sum(axis=1)
            is_alike = distances <= MAX_DISTANCE
            yield from zip(first[is_alike].tolist(), second[is_alike].tolist(), strict=True)


def _root(parents: npt.NDArray[np.int64], place: int) -> int:
    """Find the first member of a place's group, and shorten the way there."""
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = int(parents[place])
    return place
