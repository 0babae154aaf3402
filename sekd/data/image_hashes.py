"""SHA-256 of a dataset's images, cached so that a second start need not read them again."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sekd.data.image_refs import ImageRef, existing_path
from sekd.data.images import image_sha256
from sekd.io.faults import StorageError, optional, retry
from sekd.io.files import replace_atomically
from sekd.io.hashing import digest
from sekd.io.locations import cache_directory

if TYPE_CHECKING:  # samples take labels by the hashes of their images
    from sekd.data.samples import Samples

_STAMP = ("bytes", "mtime_ns", "ctime_ns", "inode")
"""A file whose stamp is unchanged is taken for the one that was hashed, as in git's index."""
_SETTLED_AFTER_NS = 2_000_000_000
"""Younger files are not cached: two changes within a tick of the clock leave one stamp."""
_SCHEMA = pa.schema(
    [("image", pa.string()), *((name, pa.int64()) for name in _STAMP), ("sha256", pa.string())]
)
_PATHS_PER_CHUNK = 1 << 14

# Shapes: N images.


class ImageHashes:
    """Hashes of all images of some samples; :meth:`compute` finds those that are not cached.

    Iterating gives the hashes in the order of the samples, ``None`` for an image that is missing
    or no regular file. What storage does not let be read raises a ``StorageError``, and is not
    remembered.

    Attributes:
        num_unknown: the number of images that must be read.
    """

    def __init__(self, samples: Samples) -> None:
        root = samples.root.resolve()
        self._samples = samples
        self._path = cache_directory() / "image-hashes" / f"{digest(str(root))[:16]}.parquet"
        self._known = _read_cache(self._path)
        self._stamps_N4 = _stamps(root, samples.images)
        exists_N = self._stamps_N4[:, 0] >= 0
        rows = pc.index_in(samples.images.combine_chunks(), self._known["image"].combine_chunks())
        rows_N = rows.fill_null(-1).to_numpy(zero_copy_only=False)
        stamps = np.stack([self._known[name].to_numpy() for name in _STAMP], axis=1)
        is_known_N = exists_N & (rows_N >= 0)
        is_known_N[is_known_N] = np.all(
            stamps[rows_N[is_known_N]] == self._stamps_N4[is_known_N], axis=1
        )
        self._hashes: npt.NDArray[np.object_] = np.full(len(samples), None)
        self._hashes[is_known_N] = self._known["sha256"].take(rows_N[is_known_N]).to_numpy()
        self._unknown = np.flatnonzero(exists_N & ~is_known_N)
        self.num_unknown = len(self._unknown)

    def compute(self, advance: Callable[[int], None]) -> None:
        """Read and hash the images that are not cached, and cache them, also when interrupted.

        Args:
            advance: called with the number of images hashed since the last call.
        """
        num_hashed = 0
        try:
            with ThreadPoolExecutor() as threads:  # hashing and reading release the GIL
                for rows in np.array_split(self._unknown, len(self._unknown) // 1024 + 1):
                    refs = [self._samples[i].image for i in rows.tolist()]
                    self._hashes[rows] = list(threads.map(image_sha256, refs))
                    num_hashed += len(rows)
                    advance(len(rows))
        finally:
            with optional(f"the cache {self._path}"):
                self._cache(self._unknown[:num_hashed])

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._hashes)

    def _cache(self, rows: npt.NDArray[np.int64]) -> None:
        newest = np.maximum(self._stamps_N4[rows, 1], self._stamps_N4[rows, 2])
        rows = rows[(time.time_ns() - newest > _SETTLED_AFTER_NS)]
        columns = {
            "image": self._samples.images.take(rows),
            **{name: self._stamps_N4[rows, i] for i, name in enumerate(_STAMP)},
            "sha256": self._hashes[rows],
        }
        new = pa.table(columns, schema=_SCHEMA)
        is_old = pc.is_in(self._known["image"], new["image"].combine_chunks())
        table = pa.concat_tables([self._known.filter(pc.invert(is_old)), new])
        with replace_atomically(self._path) as temporary:
            pq.write_table(table, temporary)


def _read_cache(path: Path) -> pa.Table:
    """Read the cached hashes; there are none where the file is missing, damaged or unreadable."""
    try:
        return retry(partial(pq.read_table, path, schema=_SCHEMA), path)
    except (OSError, StorageError, pa.ArrowException):
        return _SCHEMA.empty_table()


def _stamps(root: Path, images: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the stamp of each file, int64[N, 4] as in ``_STAMP``; -1 where there is no file."""
    stamps_N4 = np.full((len(images), len(_STAMP)), -1)
    for row, name in enumerate(_iterate_texts(images)):
        path = name if "://" not in name else str(ImageRef.parse(name, root).path)
        path = path if path.startswith("/") else f"{root}/{path}"
        try:
            status = retry(partial(os.stat, existing_path(path)), path)
        except (OSError, ValueError):  # a path with a NUL is a ValueError
            continue
        if not stat.S_ISREG(status.st_mode):  # reading a FIFO would wait for ever
            continue
        stamps_N4[row] = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return stamps_N4


def _iterate_texts(column: pa.ChunkedArray) -> Iterable[str]:
    """Iterate over a column without turning it into Python objects all at once."""
    for start in range(0, len(column), _PATHS_PER_CHUNK):
        yield from column[start : start + _PATHS_PER_CHUNK].to_pylist()
