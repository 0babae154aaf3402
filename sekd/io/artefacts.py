"""Artefacts: files that a command wrote together, and the record that names them by their hashes.

The record ``<name>.record.json`` stands beside the files and is written last, when all of them are
on the disk. Whoever reads the files checks them against it, and ``sekd verify`` checks all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.io.files import names_in, read_bytes, remove, sync, write_atomically
from sekd.io.hash_memo import HashMemo
from sekd.io.hashing import hash_file
from sekd.io.locations import Location, to_location
from sekd.io.records import DamagedFileError, read_record, seal

_SUFFIX = ".record.json"


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written, and in what way."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Artefact:
    """Files of one directory that belong together, as their record names them.

    Attributes:
        files: path relative to the directory -> ``bytes`` and ``sha256``.
        inputs: what they were made from: name -> hash.
    """

    directory: Location
    name: str
    files: Mapping[str, Mapping[str, Any]]
    inputs: Mapping[str, str]

    @classmethod
    def read(cls, directory: Location, name: str) -> Artefact | None:
        """Read a record; ``None`` if there is none.

        Raises:
            DamagedFileError: if it is not what was written.
        """
        try:
            content = read_record(directory / f"{name}{_SUFFIX}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(directory, name, content["files"], content["inputs"])

    def find_damages(self, concerns: Callable[[str], bool] = lambda _: True) -> Iterator[Damage]:
        """Find the files that are not what was written.

        A file on this machine is hashed only if its hash is not remembered.

        Args:
            concerns: chooses files by their path.
        """
        for path, entry in self.files.items():
            if concerns(path):
                reason = None
                try:
                    if self._hash(path) != entry["sha256"]:
                        reason = "not what was written"
                except (FileNotFoundError, NotADirectoryError):
                    reason = "gone"
                if reason is not None:
                    yield Damage(str(self.directory / path), reason)

    def check(self, concerns: Callable[[str], bool] = lambda _: True) -> None:
        """Check the files before they are read.

        Raises:
            DamagedFileError: naming the first file that is not what was written.
        """
        for damage in self.find_damages(concerns):
            raise DamagedFileError(to_location(damage.path), damage.reason)

    def _hash(self, path: str) -> str:
        if isinstance(self.directory, Path):
            return HashMemo.of(self.directory).hash(path)
        return hashlib.sha256(read_bytes(self.directory / path)).hexdigest()


def check_recorded(path: Location) -> None:
    """Check a file that is read by itself, if a record beside it names it.

    Raises:
        DamagedFileError: if it is not what was written.
    """
    for name in artefact_names(path.parent):
        artefact = Artefact.read(path.parent, name)
        if artefact is not None:
            artefact.check(lambda recorded: recorded == path.name)


def check_folder(directory: Path, concerns: Callable[[str], bool] = lambda _: True) -> None:
    """Check the files of a folder that carries records of its own, as an exported one does.

    Args:
        concerns: chooses files by their path.

    Raises:
        DamagedFileError: naming the first file that is not what was written.
    """
    for name in artefact_names(directory):
        artefact = Artefact.read(directory, name)
        if artefact is not None:
            artefact.check(concerns)


def artefact_names(directory: Location) -> list[str]:
    """List the names of the artefacts of which a record stands in this directory."""
    names = names_in(directory)
    return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]


def write_artefact(
    directory: Location,
    name: str,
    contents: Mapping[str, str | bytes],
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write files and then their record.

    Args:
        contents: path relative to the directory -> content.
        inputs: what they were made from: name -> hash.
    """
    for path, content in contents.items():
        write_atomically(directory / path, content)
    entries = {path: _entry_of(content) for path, content in contents.items()}
    _write_record(directory, name, entries, inputs)


def record_files(
    source: Path,
    target: Location,
    name: str,
    paths: Iterable[str],
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write the record of files on this machine into ``target``, after flushing them to the disk.

    Args:
        source: the directory that the paths are relative to. On this machine it is ``target``; on a
            remote store the files were put there before.
    """
    entries = {}
    for path in paths:
        sync(source / path)
        size = (source / path).stat().st_size
        entries[path] = {"bytes": size, "sha256": hash_file(source / path)}
    _write_record(target, name, entries, inputs)


def discard_artefact(directory: Location, name: str) -> None:
    """Remove a record, so that its files count as not written."""
    remove(directory / f"{name}{_SUFFIX}")


def _entry_of(content: str | bytes) -> dict[str, Any]:
    data = content.encode() if isinstance(content, str) else content
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _write_record(
    directory: Location,
    name: str,
    entries: Mapping[str, Mapping[str, Any]],
    inputs: Mapping[str, str] | None,
) -> None:
    record = seal({"files": dict(entries), "inputs": dict(inputs or {})})
    write_atomically(directory / f"{name}{_SUFFIX}", record)
