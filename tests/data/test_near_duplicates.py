"""Images that look alike are grouped, and others are not."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from sekd.data.near_duplicates import HASH_BYTES, MAX_DISTANCE, difference_hash, group_alike

SHARED = Path(os.environ.get("SEKD_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))


def recompressed(image: Image.Image, *, quality: int, scale: float) -> Image.Image:
    content = io.BytesIO()
    size = (int(image.width * scale), int(image.height * scale))
    image.resize(size).save(content, "JPEG", quality=quality)
    return Image.open(content)


def test_photographs_keep_their_group_when_they_are_saved_again() -> None:
    paths = sorted((SHARED / "grocery").rglob("*.jpg"))[::10]
    if not paths:
        pytest.skip(f"{SHARED}/grocery is absent; SEKD_SHARED_DATA names its folder")
    photographs = [Image.open(path).convert("RGB") for path in paths]
    again = [recompressed(image, quality=75, scale=0.8) for image in photographs]
    groups = group_alike(np.stack([difference_hash(image) for image in [*photographs, *again]]))
    originals, copies = np.split(groups, 2)
    assert len(set(originals.tolist())) == len(photographs)
    assert (originals == copies).mean() > 0.95


def test_images_without_structure_are_alone() -> None:
    flat = [Image.new("RGB", (20, 20), colour) for colour in ("white", "white", "black")]
    assert len(set(group_alike(np.stack([difference_hash(image) for image in flat])))) == 3
    assert group_alike(np.empty((0, HASH_BYTES), np.uint8)).tolist() == []


def test_an_image_without_structure_joins_no_others() -> None:
    """The one between has four bits, and four are its distance to each of the others."""
    hashes = np.zeros((3, HASH_BYTES), np.uint8)
    hashes[:, :2] = [(0xFF, 0), (0x0F, 0), (0x0F, 0xF0)]
    assert len(set(group_alike(hashes).tolist())) == 3


@given(
    hashes=hnp.arrays(np.uint8, (6, HASH_BYTES)),
    flips=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 127)), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_groups_are_those_of_all_pairs(
    hashes: NDArray[np.uint8], flips: list[tuple[int, int]]
) -> None:
    """Copies with some bits flipped are compared with the groups of a search over all pairs."""
    copies = np.unpackbits(hashes, axis=1)
    for row, bit in flips:
        copies[row, bit] ^= 1
    everything = np.concatenate([hashes, np.packbits(copies, axis=1)])
    groups = group_alike(everything)
    expected = list(range(len(everything)))
    has_structure = np.bitwise_count(everything).sum(axis=1) > MAX_DISTANCE
    for _ in everything:
        for a in range(len(everything)):
            for b in range(len(everything)):
                distance = int(np.bitwise_count(everything[a] ^ everything[b]).sum())
                if distance <= MAX_DISTANCE and has_structure[a] and has_structure[b]:
                    expected[a] = min(expected[a], expected[b])
    same = np.equal.outer(groups, groups)
    assert (same == np.equal.outer(expected, expected)).all()
