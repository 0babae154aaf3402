"""A folder of files as one artefact: published, and found again with its files checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from sekd.errors import ShardError
from sekd.io.artefacts import Artefact, discard_artefact, record_files
from sekd.io.cache import fetch
from sekd.io.files import remove, replace_atomically, sizes_below, upload
from sekd.io.hash_memo import HashMemo
from sekd.io.hashing import digest
from sekd.io.locations import Location, cache_directory
from sekd.io.records import DamagedFileError

logger = logging.getLogger(__name__)

_NOTES = "README.md"
"""A model card is its reader's to change; no command reads it, and no record names it."""


def publish_folder(
    source: Path, target: Location, name: str, inputs: Mapping[str, str] | None = None
) -> Path:
    """Make ``source/name`` the folder of that name in ``target``; return ``source/name``.

    Its record is written last, and without it the folder counts for nothing. On a remote store its
    files are put one by one before that. On this machine ``source`` and ``target`` are the same
    directory.

    Args:
        inputs: what the files were made from: name -> hash.
    """
    folder = source / name
    paths = sorted(f"{name}/{path}" for path in sizes_below(folder))
    if not isinstance(target, Path):
        for path in paths:
            upload(source / path, target / path)
    recorded = [path for path in paths if path != f"{name}/{_NOTES}"]
    record_files(source, target, name, recorded, inputs)
    return folder


def find_folder(
    directory: Location, name: str, concerns: Callable[[str], bool] = lambda _: True
) -> Path | None:
    """Return the folder on this machine, fetched if need be; ``None`` if it is not finished.

    Args:
        concerns: chooses the files that the caller reads, by their path in ``directory``.

    Raises:
        DamagedFileError: if its record, or one of these files, is not what was written.
    """
    artefact = Artefact.read(directory, name)
    if artefact is None:
        if sizes_below(directory / name):
            logger.warning(
                "%s does not count: it has no record of its files, so that they cannot be checked",
                directory / name,
            )
        return None
    if not isinstance(directory, Path):
        return _fetch_folder(artefact)
    artefact.check(concerns)
    return directory / name


def reuse_folder(
    directory: Location,
    name: str,
    inputs: Mapping[str, str] | None = None,
    concerns: Callable[[str], bool] = lambda _: True,
) -> Path | None:
    """Return the folder if it is finished, whole, and made from these inputs.

    Otherwise what is there of it is removed, which the log says, for the caller to make it again.

    Args:
        concerns: chooses the files that must be whole; damage of others is said and left.
    """
    try:
        found = find_folder(directory, name, concerns)
        artefact = Artefact.read(directory, name)
        if found is None or artefact is None:
            reason = ""
        elif dict(artefact.inputs) == dict(inputs or {}):
            for damage in artefact.find_damages(lambda path: not concerns(path)):
                logger.warning("%s; no command reads it", damage)
            return found
        else:
            reason = f"{directory / name} was made from something else than there is now"
    except DamagedFileError as error:
        reason = str(error)
    if reason:
        logger.warning("%s; it is made again", reason)
    discard_artefact(directory, name)
    remove(directory / name)
    return None


def _fetch_folder(artefact: Artefact) -> Path:
    """Copy a folder of a remote store into the cache.

    Raises:
        DamagedFileError: if one of its files is not what was written.
    """
    root = cache_directory() / "folders" / digest(dict(artefact.files))
    for path, entry in artefact.files.items():
        try:
            if HashMemo.of(root).hash(path) == entry["sha256"]:
                continue
        except FileNotFoundError:
            logger.debug("%s is fetched", path)
        try:
            content = fetch(artefact.directory, path, entry["sha256"]).read_bytes()
        except ShardError as error:
            raise DamagedFileError(artefact.directory / path, "not what was written") from error
        with replace_atomically(root / path) as temporary:
            temporary.write_bytes(content)
    return root / artefact.name
