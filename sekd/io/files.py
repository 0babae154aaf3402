"""Read and write files on this machine or on a remote store, so that no reader sees half of one.

On this machine a file is written under another name, flushed, and renamed or linked into place. On
a remote store it is one PUT, which is all or nothing by itself; no rename is assumed.

What a passing fault ended is tried again (:mod:`sekd.io.faults`). A fault that stays is raised as a
``StorageError``, which is never taken for a file that is missing or damaged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from upath import UPath

from sekd.io.directories import files_below, list_entries
from sekd.io.faults import StorageError, fault_kind, refuse_short_read, retry, single_try
from sekd.io.locations import Location
from sekd.io.processes import process_tag

_TEMPORARY = re.compile(r"^\..*\.((?P<tag>[0-9a-f]{8}-\d+-\d+)-[0-9a-f]{12}|[0-9a-f]{32})\.tmp$")
"""The second form is that of an earlier version of sekd."""


def sync(path: Path) -> None:
    """Flush a file or a directory entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replace_atomically(target: Path) -> Iterator[Path]:
    """Yield an unused path beside ``target``; what the block writes there becomes ``target``.

    The block writes a file or a directory, which is flushed and renamed at its end. Readers see all
    of it or nothing. If the block raises, what it wrote is removed and ``target`` stays as it was.

    Raises:
        OSError: if ``target`` is a directory that is not empty. Only a file is replaced.
    """
    with _temporary_beside(target) as temporary:
        yield temporary
        if temporary.is_dir():
            for path in temporary.rglob("*"):
                sync(path)
        sync(temporary)
        temporary.replace(target)
    sync(target.parent)


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """Yield an unused hidden path beside ``target``; remove what is there at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(target)
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError, StorageError), single_try():
            remove(temporary)


def _temporary_name(target: Path) -> Path:
    """Return a hidden name beside ``target`` that tells which process uses it."""
    unique = f"{process_tag()}-{uuid.uuid4().hex[:12]}"
    return target.with_name(f".{target.name}.{unique}.tmp")


def is_temporary(path: Path) -> bool:
    """Tell whether a file or folder of this name is on its way to its place, or to its end."""
    return _TEMPORARY.fullmatch(path.name) is not None


def writer_of(temporary: Path) -> str | None:
    """Return the tag of the process that writes a temporary file; ``None`` for another file."""
    found = _TEMPORARY.search(temporary.name)
    return None if found is None else found["tag"]


def read_bytes(path: Location) -> bytes:
    """Read a file.

    Raises:
        FileNotFoundError: if there is none.
        StorageError: if it cannot be read.
    """
    if isinstance(path, Path):
        return retry(partial(_read_local, str(path)), path)
    return retry(path.read_bytes, path)


def write_atomically(path: Location, content: str | bytes) -> None:
    """Write a file; an earlier one is replaced.

    Raises:
        StorageError: if it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content

    def write() -> None:
        if isinstance(path, Path):
            with replace_atomically(path) as temporary:
                temporary.write_bytes(data)
        else:
            path.fs.pipe_file(path.path, data)

    retry(write, path)


def create_exclusively(path: Location, content: str | bytes) -> None:
    """Write a new file. If several processes try at once, one of them succeeds.

    A store without conditional writes cannot promise that; docs/formats.md says what holds there.

    Raises:
        FileExistsError: if the file exists already.
        StorageError: if it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    num_tried = 0

    def try_to_create() -> None:
        nonlocal num_tried
        num_tried += 1
        try:
            if isinstance(path, Path):
                _create_locally(path, data)
            else:
                _create_remotely(path, data)
        except FileExistsError:
            # A try that was reported as failed may have succeeded, and the next one meets it.
            if num_tried == 1 or path.read_bytes() != data:
                raise

    retry(try_to_create, path)


def _create_remotely(path: UPath, data: bytes) -> None:
    if path.fs.exists(path.path):
        raise FileExistsError(errno.EEXIST, "already exists", str(path))
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except OSError as error:
        # A PUT whose reply was lost is sent again, and then meets itself.
        with contextlib.suppress(OSError):
            if path.fs.cat_file(path.path) == data:
                return
            raise FileExistsError(errno.EEXIST, "already exists", str(path)) from error
        raise


def _create_locally(path: Path, data: bytes) -> None:
    with _temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        sync(temporary)
        has_links = True
        try:
            os.link(temporary, path)
        except OSError as error:
            # NFS may report a link as failed, or as existing already, which it has made.
            is_made = path.exists() and path.samefile(temporary)
            if not is_made and (
                isinstance(error, FileExistsError) or fault_kind(error) == "passing"
            ):
                raise
            has_links = is_made
        if not has_links:
            _create_without_links(path, data)
    sync(path.parent)


def _create_without_links(path: Path, data: bytes) -> None:
    """Create a file on a file system without hard links; nothing is left of a failed try."""
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise


def names_in(directory: Location) -> list[str]:
    """Return the sorted names in a directory without hidden (temporary) ones.

    A directory that does not exist has no names.

    Raises:
        StorageError: if it cannot be listed.
    """

    def list_names() -> list[str]:
        if isinstance(directory, Path):
            return [entry.name for entry in list_entries(directory)]
        paths = directory.fs.ls(directory.path, detail=False)
        return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths]

    try:
        names = retry(list_names, directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def read_many(directory: Location, names: Iterable[str]) -> Mapping[str, bytes]:
    """Read files of a directory: name -> content, without files that do not exist.

    Raises:
        StorageError: if one cannot be read.
    """
    if isinstance(directory, Path):
        local_contents = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                local_contents[name] = retry(partial(_read_local, f"{directory}/{name}"), directory)
        return local_contents
    contents: dict[str, bytes] = {}
    paths = {f"{directory.path.rstrip('/')}/{name}": name for name in names}

    def read_rest() -> None:
        rest = [path for path, name in paths.items() if name not in contents]
        results: Mapping[str, Any] = directory.fs.cat(rest, on_error="return") if rest else {}
        for path, content in results.items():
            if isinstance(content, bytes):
                contents[str(path).rsplit("/", 1)[-1]] = content
        for content in results.values():
            if isinstance(content, Exception) and fault_kind(content) is not None:
                raise content

    retry(read_rest, directory)
    return contents


def _read_local(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  a Path for each takes time
        content = file.read()  # None for a read that would block at once
        refuse_short_read(file, len(content or b""))
    return content


def upload(source: Path, target: UPath) -> None:
    """Put one file on a remote store."""
    retry(lambda: target.fs.put_file(str(source), target.path), target)


def sizes_below(directory: Location) -> dict[str, int]:
    """List every file below a directory: path relative to it, joined by ``/`` -> bytes.

    Raises:
        StorageError: if it cannot be listed.
    """
    if isinstance(directory, Path):
        sizes = {}
        for path in files_below(directory):
            with contextlib.suppress(FileNotFoundError):
                sizes[path.relative_to(directory).as_posix()] = retry(path.stat, path).st_size
        return sizes
    try:
        files = retry(lambda: directory.fs.find(directory.path, detail=True), directory)
    except FileNotFoundError:
        return {}
    prefix = f"{directory.fs._strip_protocol(directory.path)}/"
    return {str(path).removeprefix(prefix): int(info["size"]) for path, info in files.items()}


def remove(path: Location) -> None:
    """Remove a file or a whole directory, if it exists.

    A directory of this machine is renamed first, so that nobody meets half of it.
    """

    def remove_once() -> None:
        if not isinstance(path, Path):
            path.fs.rm(path.path, recursive=True)
        elif path.is_dir() and not path.is_symlink():
            doomed = path if writer_of(path) else path.rename(_temporary_name(path))
            shutil.rmtree(doomed)
        else:
            path.unlink()

    with contextlib.suppress(FileNotFoundError):
        retry(remove_once, path)
