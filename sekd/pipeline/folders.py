"""A folder of files as one result: there when it was renamed into place, or its record is."""

from __future__ import annotations

from pathlib import Path

from sekd.io.cache import fetch
from sekd.io.files import upload, write_atomically
from sekd.io.hashing import hash_directory
from sekd.io.locations import Location, cache_directory
from sekd.io.records import seal, unseal


def publish_folder(source: Path, target: Location, name: str) -> Path:
    """Make ``source/name`` the folder of that name in ``target``; returns it on this machine.

    On a remote store its files are put one by one, and then ``<name>.json``, which names them with
    their hashes. On this machine it is where it should be.
    """
    folder = source / name
    if not isinstance(target, Path):
        files = hash_directory(folder)
        for path in files:
            upload(folder / path, target / name / path)
        write_atomically(target / f"{name}.json", seal({"files": files}))
    return folder


def find_folder(directory: Location, name: str) -> Path | None:
    """The folder on this machine, fetched if need be; ``None`` where it is not complete."""
    if isinstance(directory, Path):
        return directory / name if (directory / name).is_dir() else None
    record = directory / f"{name}.json"
    try:
        content = record.read_bytes()
        files = unseal(content)["files"]
    except (FileNotFoundError, ValueError):
        return None
    here: Path = cache_directory() / "folders" / content[-67:-3].decode() / name
    for path, sha256 in files.items():
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(here / path, fetch(directory / name / path, sha256).read_bytes())
    return here
