"""The present inputs of a stage, and the shards that are made from them.

A shard has a key: the hash of everything that its results depend on beside the settings of the
stage. A planned shard whose key is that of the present inputs stands, also if it was planned for an
earlier state of the data. What no planned shard covers gets new shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.io.columns import encode_column, to_texts
from sekd.io.hashing import digest

# Shapes: N samples.

MARKS = ("place", "image", "label", "options")
"""Columns of the plan from which a later run tells what has changed of a sample."""
_WHAT_CHANGED = {
    "image": "another image",
    "label": "another label",
    "options": "other options",
    "place": "an image at another place",
}
_NUM_NAMED = 3
"""Number of samples of a shard that a message names."""


@dataclass(frozen=True)
class NewShard:
    """Samples that no planned shard covers.

    Attributes:
        rows: int64[N], the positions of the samples in the inputs.
    """

    sample_ids: tuple[str, ...]
    key: str
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """The shards that the inputs ask for: some that are planned, and new ones."""

    planned: Sequence[Shard]
    new: Sequence[NewShard]


class Inputs(Protocol):
    """The present inputs of a stage."""

    def select(self, planned: Sequence[Shard]) -> Selection:
        """Choose the planned shards whose inputs are as they were, and split up the rest.

        The choice follows from the plan and the inputs alone: when the inputs are again what they
        were once, it is again what it was then.
        """
        ...

    def marks(self, shard: NewShard) -> Mapping[str, Sequence[Any]]:
        """Return column of :data:`MARKS` -> its value for each sample of the shard."""
        ...

    def explain(self, rows: pa.Table) -> dict[int, str]:
        """Say for each shard what has changed since it was planned.

        Args:
            rows: the rows of the plan of some shards.
        """
        ...


@dataclass(frozen=True, eq=False)
class SampleInputs:
    """Samples, of which a shard takes ``shard_size`` or fewer.

    A shard depends on the id, the place and the content of the image, the label and the options of
    each of its samples.

    Attributes:
        places: where each image is, as text.
        images: the SHA-256 of each image; ``None`` where it cannot be read.
        labels: ids of leaves, null without a label.
        options: what a sample brings to its questions, as JSON can hold it; ``None`` if none does.
    """

    ids: pa.ChunkedArray
    places: pa.ChunkedArray
    images: NDArray[np.object_]
    labels: pa.ChunkedArray
    options: Sequence[Any] | None
    root: str
    shard_size: int

    @classmethod
    def of(cls, dataset: Dataset, images: Iterable[str | None], shard_size: int) -> Self:
        """Take the samples of a dataset.

        Args:
            images: the SHA-256 of each sample's image, as
                :class:`~sekd.data.image_hashes.ImageHashes` gives it.
        """
        samples = dataset.samples
        hashes = np.array(list(images), dtype=object)
        if len(hashes) != len(samples):
            raise ValueError(f"{len(hashes)} images of {len(samples)} samples")
        return cls(
            ids=samples.ids,
            places=samples.images,
            images=hashes,
            labels=samples.leaves,
            options=_options(dataset),
            root=str(samples.root),
            shard_size=shard_size,
        )

    @classmethod
    def of_ids(cls, ids: Sequence[str], shard_size: int) -> Self:
        """Take samples of which nothing counts but their ids."""
        column = pa.chunked_array([pa.array(ids, pa.string())])
        none = pa.chunked_array([pa.nulls(len(ids), pa.string())])
        return cls(column, none, np.full(len(ids), None), none, None, "", shard_size)

    def select(self, planned: Sequence[Shard]) -> Selection:
        """See :meth:`Inputs.select`; of two shards that share a sample, the earlier one counts."""
        is_taken_N = np.zeros(len(self.ids), dtype=bool)
        selected = []
        for shard, rows in self._still_there(planned):
            if not is_taken_N[rows].any() and self._key(shard.sample_ids, rows) == shard.key:
                selected.append(shard)
                is_taken_N[rows] = True
        rest = np.flatnonzero(~is_taken_N)
        starts = range(0, len(rest), self.shard_size)
        return Selection(
            selected, [self._new_shard(rest[start : start + self.shard_size]) for start in starts]
        )

    def marks(self, shard: NewShard) -> Mapping[str, Sequence[Any]]:
        """See :meth:`Inputs.marks`."""
        return {
            "place": [_mark(f"{self.root}\n{place}") for place in self._texts(shard.rows)],
            "image": [_mark(image) for image in self.images[shard.rows]],
            "label": self._label_texts(shard.rows),
            "options": [_mark(options) for options in self._options_of(shard.rows)],
        }

    def explain(self, rows: pa.Table) -> dict[int, str]:
        """See :meth:`Inputs.explain`."""
        positions = self._find(rows["sample_id"])
        is_there = positions >= 0
        now = NewShard((), "", positions[is_there])
        is_changed = {name: np.zeros(len(rows), dtype=bool) for name in MARKS}
        for name, values in self.marks(now).items():
            before = rows[name].to_pylist()
            old = [before[row] for row in np.flatnonzero(is_there)]
            pairs = zip(old, values, strict=True)
            is_changed[name][is_there] = [one != other for one, other in pairs]
        ids = rows["sample_id"].to_pylist()
        reasons: dict[int, list[str]] = {}
        for row, shard in enumerate(rows["shard"].to_pylist()):
            changes = [text for name, text in _WHAT_CHANGED.items() if is_changed[name][row]]
            texts = reasons.setdefault(shard, [])
            if not is_there[row]:
                texts.append(f"{ids[row]} is gone")
            elif changes:
                texts.append(f"{ids[row]} has {' and '.join(changes)}")
        return {shard: _join_reasons(texts) for shard, texts in reasons.items()}

    def _still_there(self, planned: Sequence[Shard]) -> Iterator[tuple[Shard, NDArray[np.int64]]]:
        """Yield each shard of which all samples are there, with their positions."""
        ids = [sample_id for shard in planned for sample_id in shard.sample_ids]
        positions = self._find(pa.chunked_array([pa.array(ids, pa.string())]))
        ends = np.cumsum([len(shard.sample_ids) for shard in planned], dtype=np.int64).tolist()
        num_missing = np.cumsum(np.concatenate([[0], positions < 0])).tolist()
        for shard, start, end in zip(planned, [0, *ends], ends, strict=False):
            if start < end and num_missing[start] == num_missing[end]:
                yield shard, positions[start:end]

    def _find(self, ids: pa.ChunkedArray) -> NDArray[np.int64]:
        if not len(ids):
            return np.empty(0, np.int64)
        rows = pc.index_in(ids, self.ids.combine_chunks()).fill_null(-1)
        return np.asarray(rows.to_numpy(), dtype=np.int64)

    def _new_shard(self, rows: NDArray[np.int64]) -> NewShard:
        ids = tuple(self._column_slice(self.ids, rows))
        return NewShard(ids, self._key(ids, rows), rows)

    def _key(self, sample_ids: Sequence[str], rows: NDArray[np.int64]) -> str:
        options = self._options_of(rows)
        return digest(
            [
                self.root,
                list(sample_ids),
                self._texts(rows),
                self.images[rows].tolist(),
                self._label_texts(rows),
                options if any(options) else None,
            ]
        )

    def _texts(self, rows: NDArray[np.int64]) -> list[str]:
        return self._column_slice(self.places, rows)

    @staticmethod
    def _column_slice(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> list[str]:
        """Return some values of a column; consecutive rows, the usual case, are not copied."""
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (rows[1:] > rows[:-1]).all():
            return to_texts(column.slice(int(rows[0]), len(rows)))
        return to_texts(column.take(pa.array(rows)))

    @cached_property
    def _labels(self) -> tuple[NDArray[np.int64], list[str | None]]:
        """The number of each sample's label, and the labels; the last one is ``None``."""
        codes, labels = encode_column(self.labels)
        return codes, [*labels.to_pylist(), None]

    def _label_texts(self, rows: NDArray[np.int64]) -> list[str | None]:
        codes, labels = self._labels
        return [labels[code] for code in codes[rows].tolist()]

    def _options_of(self, rows: NDArray[np.int64]) -> list[Any]:
        if self.options is None:
            return [None] * len(rows)
        return [self.options[row] for row in rows.tolist()]


def _options(dataset: Dataset) -> Sequence[Any] | None:
    """Return what each sample alone brings to its questions: own options, or ranks by its image."""
    samples, similar = dataset.samples, dataset.similar
    if similar is None or similar.spec.by != "image":
        return samples.choices
    ranks = similar.by_sample()
    choices = samples.choices or [None] * len(samples)
    ids = samples.ids.to_pylist()
    return [[own, ranks.get(sample_id)] for own, sample_id in zip(choices, ids, strict=True)]


@dataclass(frozen=True)
class ShardInputs:
    """Shards of an earlier stage; each gets one shard, which depends on nothing else.

    Attributes:
        shards: key -> ids of the samples, in the order of the earlier stage.
    """

    shards: Mapping[str, tuple[str, ...]]

    def select(self, planned: Sequence[Shard]) -> Selection:
        """See :meth:`Inputs.select`."""
        selected: dict[str, Shard] = {}
        for shard in planned:
            if shard.key in self.shards:
                selected.setdefault(shard.key, shard)
        new = [
            NewShard(ids, key, np.empty(0, np.int64))
            for key, ids in self.shards.items()
            if key not in selected
        ]
        return Selection(list(selected.values()), new)

    def marks(self, shard: NewShard) -> Mapping[str, Sequence[Any]]:
        """See :meth:`Inputs.marks`; the earlier stage knows what has changed of a sample."""
        return {name: [None] * len(shard.sample_ids) for name in MARKS}

    def explain(self, rows: pa.Table) -> dict[int, str]:
        """See :meth:`Inputs.explain`."""
        reason = "what it is made from was replaced or is gone"
        return dict.fromkeys(pc.unique(rows["shard"]).to_pylist(), reason)


def _mark(value: Any) -> int | None:
    """Return the first 60 bits of a value's hash: enough to tell that it has changed."""
    return None if value is None else int(digest(value)[:15], 16)


def _join_reasons(texts: Sequence[str]) -> str:
    shown = "; ".join(texts[:_NUM_NAMED])
    num_left = len(texts) - _NUM_NAMED
    if num_left > 0:
        return f"{shown}; and {num_left} more"
    return shown or "its samples are in other shards"
