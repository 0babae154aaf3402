"""Copies of a remote store's files on this machine, named by the SHA-256 of their content."""

from __future__ import annotations

from pathlib import Path

from sekd.errors import ShardError
from sekd.io.files import replace_atomically
from sekd.io.hashing import hash_file
from sekd.io.locations import Location, cache_directory


def fetch(path: Location, sha256: str) -> Path:
    """Return the file itself if it is on this machine, else a local copy that has this hash.

    Raises:
        ShardError: if the store's file has another content.
    """
    if isinstance(path, Path):
        return path
    copy = cache_directory() / sha256[:2] / f"{sha256}{path.suffix}"
    if copy.is_file():
        return copy
    with replace_atomically(copy) as temporary:
        path.fs.get_file(path.path, str(temporary))
        if hash_file(temporary) != sha256:
            raise ShardError(f"{path}: not the file that was committed; run sekd verify")
    return copy
