"""Files of a run on this machine: where they are, or copies named by the hash of their content."""

from __future__ import annotations

from pathlib import Path

from upath import UPath

from sekd.errors import ShardError
from sekd.io.faults import retry
from sekd.io.files import replace_atomically
from sekd.io.hash_memo import HashMemo
from sekd.io.hashing import hash_file
from sekd.io.locations import Location, cache_directory


def fetch(root: Location, name: str, sha256: str) -> Path:
    """Return a file that has this hash: the file itself if it is on this machine, else a copy.

    What is returned was hashed, now or earlier (:class:`~sekd.io.hash_memo.HashMemo`). A copy that
    is damaged is fetched again.

    Args:
        name: path of the file, relative to the directory ``root``.

    Raises:
        ShardError: if the file is gone, or has another content.
        StorageError: if storage does not answer, or the cache takes no copy.
    """
    try:
        if not isinstance(root, Path):
            return _fetch_copy(root / name, sha256)
        if HashMemo.of(root).hash(name) == sha256:
            return root / name
    except FileNotFoundError as error:
        raise ShardError(f"{root / name}: gone; {_REPEAT}") from error
    raise ShardError(f"{root / name}: not the file that was committed; {_REPEAT}")


def copy_of(path: Location, sha256: str) -> Path:
    """Return where the copy of a remote store's file is, if it was fetched."""
    return cache_directory() / _copy_name(path, sha256)


def _copy_name(path: Location, sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}{path.suffix}"


def _fetch_copy(path: UPath, sha256: str) -> Path:
    """Return a copy of a remote store's file."""
    copies = cache_directory()
    name = _copy_name(path, sha256)
    copy = copies / name
    if retry(copy.is_file, copy) and HashMemo.of(copies).hash(name) == sha256:
        return copy

    def fetch_once() -> None:
        with replace_atomically(copy) as temporary:
            path.fs.get_file(path.path, str(temporary))
            if hash_file(temporary) != sha256:
                raise ShardError(f"{path}: not the file that was committed; {_REPEAT}")

    retry(fetch_once, path)
    return copy


_REPEAT = "run the command that made it again, which makes it anew"
