"""Files of a remote store on this machine, kept by the SHA-256 of their content."""

from __future__ import annotations

import uuid
from pathlib import Path

from sekd.errors import ShardError
from sekd.io.hashing import hash_file
from sekd.io.locations import Location, cache_directory


def fetch(path: Location, sha256: str) -> Path:
    """A file as one of this machine: itself, or a copy that has this hash.

    Raises:
        ShardError: if the store's file has another content.
    """
    if isinstance(path, Path):
        return path
    copy = cache_directory() / sha256[:2] / f"{sha256}{path.suffix}"
    if copy.is_file():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.fs.get_file(path.path, str(partial))
        if hash_file(partial) != sha256:
            raise ShardError(f"{path}: not the file that was committed; run sekd verify")
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)
    return copy
