"""Images that datasets share, that look alike, or that have several labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from sekd.data.images import Reading, read_and_hash
from sekd.data.near_duplicates import HASH_BYTES, difference_hash, group_alike
from sekd.data.samples import Dataset, Sample
from sekd.data.taxonomy import name_of
from sekd.errors import SampleError

_NUM_EXAMPLES = 10
_USED_PIXELS = 64 * 64
_SAMPLES_PER_CHUNK = 1024


@dataclass(frozen=True)
class ImageAudit:
    """Images of one dataset that cannot be read."""

    dataset: str
    num_unreadable: int
    first_unreadable: str | None


@dataclass(frozen=True)
class Overlap:
    """Images that two datasets share, or that one dataset has twice.

    Attributes:
        num_identical: images of the first dataset of which the second one has the same bytes.
        num_alike: images of the first dataset that look like another image of the second one.
        examples: pairs of sample ids.
    """

    datasets: tuple[str, str]
    num_identical: int
    num_alike: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Disagreement:
    """One image under several labels: (dataset, sample id, node id of the label)."""

    samples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class SeenImages:
    """The images of one dataset that could be read.

    Attributes:
        sha256: of each image.
        hashes: difference hashes, uint8[N, 16].
    """

    dataset: str
    ids: Sequence[str]
    labels: Sequence[str | None]
    sha256: Sequence[str]
    hashes: npt.NDArray[np.uint8]


def look_at(dataset: Dataset, advance: Callable[[int], None]) -> tuple[ImageAudit, SeenImages]:
    """Read and hash all images of a dataset, on several threads."""
    reading = Reading(dataset.spec.pixel_limit, used_pixels=lambda: _USED_PIXELS)

    def look(sample: Sample) -> tuple[str, npt.NDArray[np.uint8]] | str:
        try:
            image, sha256 = read_and_hash(sample.image, reading)
        except SampleError as error:
            return str(error)
        return sha256, difference_hash(image)

    ids: list[str] = []
    labels: list[str | None] = []
    sha256: list[str] = []
    hashes: list[npt.NDArray[np.uint8]] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor() as threads:
        for samples in dataset.samples.chunks(_SAMPLES_PER_CHUNK):
            for sample, seen in zip(samples, threads.map(look, samples), strict=True):
                if isinstance(seen, str):
                    unreadable.append(seen)
                    continue
                ids.append(sample.id)
                labels.append(None if sample.leaf is None else sample.leaf.id)
                sha256.append(seen[0])
                hashes.append(seen[1])
            advance(len(samples))
    first = unreadable[0] if unreadable else None
    stacked = np.array(hashes, dtype=np.uint8).reshape(-1, HASH_BYTES)
    seen_images = SeenImages(dataset.name, ids, labels, sha256, stacked)
    return ImageAudit(dataset.name, len(unreadable), first), seen_images


def find_overlaps(seen: Sequence[SeenImages]) -> Iterator[Overlap]:
    """Compare each dataset with itself and with those behind it."""
    if not any(len(images.ids) for images in seen):
        return
    groups = group_alike(np.concatenate([images.hashes for images in seen if len(images.ids)]))
    ends = np.cumsum([len(images.ids) for images in seen])
    groups_of = dict(zip((images.dataset for images in seen), np.split(groups, ends), strict=False))
    for first, second in combinations_with_replacement(seen, 2):
        identical = _matches(first.sha256, second.sha256, is_same=first is second)
        alike = _matches(
            groups_of[first.dataset].tolist(),
            groups_of[second.dataset].tolist(),
            is_same=first is second,
        )
        num_alike = len(alike.keys() - identical.keys())
        if identical or num_alike:
            pairs = {**alike, **identical}
            yield Overlap(
                (first.dataset, second.dataset),
                len(identical),
                num_alike,
                tuple(
                    (first.ids[row], second.ids[other])
                    for row, other in sorted(pairs.items())[:_NUM_EXAMPLES]
                ),
            )


def _matches(
    first: Sequence[Hashable], second: Sequence[Hashable], *, is_same: bool
) -> dict[int, int]:
    """Return row of the first -> a row of the second with the same value.

    Args:
        is_same: both are one dataset: a row matches an earlier row.
    """
    rows: dict[Hashable, int] = {}
    if not is_same:
        for row, value in enumerate(second):
            rows.setdefault(value, row)
        return {row: rows[value] for row, value in enumerate(first) if value in rows}
    matches = {}
    for row, value in enumerate(first):
        earlier = rows.setdefault(value, row)
        if earlier != row:
            matches[row] = earlier
    return matches


def find_disagreements(seen: Sequence[SeenImages]) -> Iterator[Disagreement]:
    """Find labelled images with the same bytes whose labels have different names.

    Datasets may have different taxonomies, so the names of the leaves are compared.
    """
    by_content: dict[str, list[tuple[str, str, str]]] = {}
    for images in seen:
        for sha256, sample_id, label in zip(images.sha256, images.ids, images.labels, strict=True):
            if label is not None:
                by_content.setdefault(sha256, []).append((images.dataset, sample_id, label))
    for samples in by_content.values():
        if len({name_of(label) for _, _, label in samples}) > 1:
            yield Disagreement(tuple(samples))
