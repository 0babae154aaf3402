"""A folder of files as one result.

On this machine a folder is complete when it was renamed into place, on a remote store when its
record exists.
"""

from __future__ import annotations

from pathlib import Path

from sekd.io.cache import fetch
from sekd.io.files import upload, write_atomically
from sekd.io.hashing import hash_directory
from sekd.io.locations import Location, cache_directory
from sekd.io.records import hash_in_record, seal, unseal


def publish_folder(source: Path, target: Location, name: str) -> Path:
    """Make ``source/name`` the folder of that name in ``target``; return ``source/name``.

    On a remote store its files are put one by one, and then ``<name>.json``, which names them with
    their hashes. On this machine ``source`` and ``target`` are the same directory.
    """
    folder = source / name
    if not isinstance(target, Path):
        hashes = hash_directory(folder)
        for path in hashes:
            upload(folder / path, target / name / path)
        write_atomically(target / f"{name}.json", seal({"files": hashes}))
    return folder


def find_folder(directory: Location, name: str) -> Path | None:
    """Return the folder on this machine, fetched if need be; ``None`` if it is not complete."""
    if isinstance(directory, Path):
        return directory / name if (directory / name).is_dir() else None
    try:
        record = (directory / f"{name}.json").read_bytes()
        hashes = unseal(record)["files"]
    except (FileNotFoundError, ValueError):
        return None
    copy: Path = cache_directory() / "folders" / hash_in_record(record) / name
    for path, sha256 in hashes.items():
        write_atomically(copy / path, fetch(directory, f"{name}/{path}", sha256).read_bytes())
    return copy
