"""Hashes of files, remembered as long as size, times and inode of a file stay as they were.

The memo of a directory is a text file in the cache with one line for each file that was hashed. It
may be removed at any time, and without a cache that can be written every file is hashed each time.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from functools import partial
from pathlib import Path

from sekd.io.directories import files_below
from sekd.io.faults import retry
from sekd.io.hashing import digest, hash_file
from sekd.io.locations import cache_directory

logger = logging.getLogger(__name__)

_SETTLED_AFTER_NS = 2_000_000_000
"""Younger files are not remembered: two changes within a tick of the clock leave one stamp."""

_Stamp = tuple[int, int, int, int]


class HashMemo:
    """Remembers the hashes of the files below a directory of this machine.

    Files are named by their path relative to the directory, joined by ``/``.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root.absolute())
        name = f"{digest(self._root)[:16]}.txt"
        self._path = cache_directory() / "file-hashes" / name
        self._known: dict[str, tuple[_Stamp, str]] | None = None

    @classmethod
    def of(cls, root: Path) -> HashMemo:
        """Return the memo of a directory that all of this process shares."""
        key = str(root), os.environ.get("XDG_CACHE_HOME")
        if key not in _shared:
            _shared[key] = cls(root)
        return _shared[key]

    def hash(self, name: str) -> str:
        """Return the SHA-256 of a file; it is read only if it is not known, or may have changed.

        Raises:
            FileNotFoundError: if there is no such file.
            StorageError: if it cannot be read.
        """
        known = self.recall(name)
        if known is not None:
            return known
        path = Path(self._root, name)
        now, stamp = time.time_ns(), _stamp_of(str(path))
        sha256 = hash_file(path)
        is_settled = now - max(stamp[1:3]) > _SETTLED_AFTER_NS
        if is_settled and _stamp_of(str(path)) == stamp:
            self._remember(name, stamp, sha256)
        return sha256

    def recall(self, name: str) -> str | None:
        """Return the SHA-256 of a file if it is known and the file is the one that was hashed."""
        if self._known is None:
            self._known = _read_lines(self._path)
        known = self._known.get(name)
        if known is None:
            return None
        try:
            return known[1] if known[0] == _stamp_of(f"{self._root}/{name}") else None
        except FileNotFoundError:
            return None

    def hash_directory(self, directory: str = "") -> dict[str, str]:
        """Hash every file below a directory: path relative to it -> SHA-256, no hidden files."""
        hashes = {}
        root = Path(self._root, directory)
        for path in sorted(files_below(root)):
            parts = path.relative_to(root).parts
            if not any(part.startswith(".") for part in parts):
                name = "/".join(parts)
                hashes[name] = self.hash(f"{directory}/{name}" if directory else name)
        return hashes

    def _remember(self, name: str, stamp: _Stamp, sha256: str) -> None:
        assert self._known is not None
        self._known[name] = stamp, sha256
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One write at the end of the file, so that several processes may share it.
            with self._path.open("ab", buffering=0) as file:
                file.write(_line_of(name, stamp, sha256))
        except OSError as error:
            logger.debug("the hash of %s is not remembered: %s", name, error)


_shared: dict[tuple[str, str | None], HashMemo] = {}


def _stamp_of(path: str) -> _Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116  a Path, or retry, for each of many files takes time
    except OSError:
        status = retry(partial(os.stat, path), path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _line_of(name: str, stamp: _Stamp, sha256: str) -> bytes:
    """Write a line that begins with a checksum of the rest of it."""
    entry = json.dumps([name, *stamp, sha256]).encode()
    return b"%s %s\n" % (_checksum(entry), entry)


def _read_lines(path: Path) -> dict[str, tuple[_Stamp, str]]:
    """Read what is remembered: name -> stamp and hash, without lines that are damaged."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    whole = [entry for checksum, entry in map(_split_line, lines) if _checksum(entry) == checksum]
    entries = json.loads(b"[%s]" % b",".join(whole))  # at once, which takes a third of the time
    return {name: (tuple(stamp), sha256) for name, *stamp, sha256 in entries}


def _split_line(line: bytes) -> tuple[bytes, bytes]:
    checksum, _, entry = line.partition(b" ")
    return checksum, entry


def _checksum(entry: bytes) -> bytes:
    return b"%08x" % zlib.crc32(entry)
