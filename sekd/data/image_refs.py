"""Name the bytes of one image: a file, a member of a tar, or a cell of a Parquet or Arrow table.

Samples and stored signals hold a reference as a text. It is a path, or, where the image is one of
many in a file, ``scheme://place::path``, as fsspec chains them:

- ``birds/1.jpg`` is a file.
- ``tar://1536+48234::birds.tar`` are the 48,234 bytes from byte 1,536 on.
- ``parquet://17/image::train.parquet`` is row 17, from 0, of the column ``image``.
- ``arrow://17/image::data.arrow`` is the same of an Arrow file or stream.
- ``cifar://17::train.bin`` is image 17, from 0, of the binary version of CIFAR-100.
- ``unusable://reason::path`` is an image that its source could not name. Reading it raises the
  reason, so that its sample is set aside like one whose image is broken.

Nothing is unpacked: a reference reads its own bytes, of Parquet those of its row group.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sekd.errors import SampleError
from sekd.io.faults import refuse_short_read, retry

FILE = "file"
UNUSABLE = "unusable"
_TEXT = re.compile(r"([a-z]+)://(.*?)::(.*)", re.DOTALL)
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where the bytes of one image are.

    Attributes:
        path: of the file that holds them.
        scheme: a key of ``_READERS``, or ``unusable``.
        place: where in the file, as the scheme writes it; empty for a whole file.
    """

    path: Path
    scheme: str = FILE
    place: str = ""

    @classmethod
    def parse(cls, text: str, root: Path | None = None) -> ImageRef:
        """Read a reference from its text.

        Args:
            root: where relative paths start. A relative path that leaves it is unusable; an
                absolute path is taken as it is.
        """
        found = _TEXT.fullmatch(text) if "://" in text else None
        if found is None and _ADDRESS.match(text):
            return cls.unusable(
                "it is an address, not a path; `downloads` of the dataset fetches it", text
            )
        scheme, place, path = found.groups() if found else (FILE, "", text)
        if scheme not in _READERS and scheme != UNUSABLE:
            return cls.unusable(f"no image is named by {scheme}://", path)
        if root is None or scheme == UNUSABLE:
            return cls(Path(path), scheme, place)
        if ".." in path and _leaves_root(path):
            why = f"its path leaves {root}, where image paths start; see image_root, image_prefix"
            return cls.unusable(why, path)
        return cls(root / path, scheme, place)

    @classmethod
    def unusable(cls, reason: str, path: str | Path) -> ImageRef:
        """Return the reference to an image that cannot be read for this reason."""
        return cls(Path(path), UNUSABLE, quote(reason, safe=" '(),;/"))

    def __str__(self) -> str:
        if self.scheme == FILE:
            return str(self.path)
        return f"{self.scheme}://{self.place}::{self.path}"

    def read_bytes(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            SampleError: if they are missing or damaged, or the path is no regular file.
            StorageError: if storage does not let them be read; that says nothing about them.
        """
        if self.scheme == UNUSABLE:
            raise SampleError(f"{self.path}: {unquote(self.place)}")
        try:
            return retry(partial(_READERS[self.scheme], self.path, self.place), self)
        except FileNotFoundError as error:
            raise SampleError(f"{self}: no such image") from error
        except (OSError, ValueError, LookupError, pa.ArrowException) as error:
            raise SampleError(f"{self}: cannot be read: {error}") from error


_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def _leaves_root(path: str) -> bool:
    """Tell whether a relative path leaves the folder where it starts; links are not followed."""
    return not path.startswith("/") and os.path.normpath(path).split("/", 1)[0] == ".."


def _read_file(path: Path, place: str) -> bytes:
    with _open_regular(path) as file:
        content = file.read()
        refuse_short_read(file, len(content or b""))
        return content


def _open_regular(path: Path) -> io.BufferedReader:
    """Open a file, and refuse a pipe or a device, whose reading might never end."""
    # Without O_NONBLOCK, opening a FIFO waits for somebody who writes to it.
    descriptor = os.open(existing_path(str(path)), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "a special file")
        raise ValueError(f"{kind}, not a regular file")
    return open(descriptor, "rb")  # noqa: PTH123


def existing_path(path: str) -> str:
    """Return the path in the Unicode form in which it exists, or as it is.

    Names with accents change their form where they are copied from or to a Mac.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, path)
        if os.path.lexists(other):
            return other
    return path


def _read_span(path: Path, place: str) -> bytes:
    offset, size = map(int, place.split("+"))
    with _open_regular(path) as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise ValueError("the file ends before the image does")
    return content


CIFAR_LABEL_BYTES, CIFAR_PIXEL_BYTES = 2, 3 * 32 * 32
"""Each record of CIFAR-100 is a coarse label, a fine label, and 32 x 32 pixels, plane by plane."""


def _read_cifar(path: Path, place: str) -> bytes:
    """Return the pixels of a record as a BMP file, which is the same with every version of PIL."""
    start = int(place) * (CIFAR_LABEL_BYTES + CIFAR_PIXEL_BYTES) + CIFAR_LABEL_BYTES
    pixels = np.frombuffer(_read_span(path, f"{start}+{CIFAR_PIXEL_BYTES}"), np.uint8)
    buffer = io.BytesIO()
    planes = pixels.reshape(3, 32, 32)
    Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))).save(buffer, "BMP")
    return buffer.getvalue()


_PARQUET_LOCK = threading.Lock()  # threads that want one row group wait for one reading of it


def _read_parquet(path: Path, place: str) -> bytes:
    row, column = _split_cell(place)
    mtime_ns = _regular_mtime(path)
    with _PARQUET_LOCK:
        ends = _row_group_ends(path, mtime_ns)
        group = int(np.searchsorted(ends, row, side="right"))
        start = int(ends[group - 1]) if group else 0
        cells = _row_group(path, mtime_ns, group, column)
    return _cell_bytes(cells[row - start], path)


@lru_cache(maxsize=256)
def _row_group_ends(path: Path, _mtime_ns: int) -> npt.NDArray[np.int64]:
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return np.cumsum(sizes)


@lru_cache(maxsize=2)
def _row_group(path: Path, _mtime_ns: int, group: int, column: str) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column])[column]


def _read_arrow(path: Path, place: str) -> bytes:
    row, column = _split_cell(place)
    return _cell_bytes(open_arrow(path, _regular_mtime(path))[column][row], path)


@lru_cache(maxsize=256)
def open_arrow(path: Path, _mtime_ns: int) -> pa.Table:
    """Open an Arrow file or stream; its columns stay on disk until they are looked at."""
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


def _regular_mtime(path: Path) -> int:
    """Return when a file was changed, so that what is cached of an earlier one is not taken."""
    with _open_regular(path) as file:
        return os.fstat(file.fileno()).st_mtime_ns


def _split_cell(place: str) -> tuple[int, str]:
    row, _, column = place.partition("/")
    return int(row), unquote(column)


def cell_ref(scheme: str, row: int, column: str, path: str) -> str:
    """Write the reference to a cell of a Parquet or Arrow file.

    Args:
        scheme: ``parquet`` or ``arrow``.
        row: from 0, in the whole file.
    """
    return f"{scheme}://{row}/{quote(column, safe='')}::{path}"


def _cell_bytes(cell: pa.Scalar, path: Path) -> bytes:
    """Return the bytes in a cell, or of the file that it names: binary, or as `datasets` has it."""
    value = cell.as_py()
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return _read_file(path.parent / value["path"], "")
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise ValueError(f"the cell holds no image but {type(value).__name__}")  # noqa: TRY004
    return value


_READERS: Mapping[str, Callable[[Path, str], bytes]] = {
    FILE: _read_file,
    "tar": _read_span,
    "cifar": _read_cifar,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
"""Scheme -> function that returns the bytes at a place in a file."""
