"""Read and write files on this machine or on a remote store, so that no reader sees half of one.

On this machine a file is written under another name, flushed, and renamed or linked into place. On
a remote store it is one PUT, which is all or nothing by itself; no rename is assumed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upath import UPath

from sekd.io.locations import Location

_STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def is_storage_error(error: BaseException) -> bool:
    """Tell whether an error says that a disk is full, read-only, forbidden or broken."""
    return isinstance(error, OSError) and error.errno in _STORAGE_ERRORS


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
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            remove(temporary)


def write_atomically(path: Location, content: str | bytes) -> None:
    """Write a file; an earlier one is replaced."""
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, Path):
        with replace_atomically(path) as temporary:
            temporary.write_bytes(data)
    else:
        path.fs.pipe_file(path.path, data)


def create_exclusively(path: Location, content: str | bytes) -> None:
    """Write a new file. If several processes try at once, one of them succeeds.

    A store without conditional writes cannot promise that; docs/formats.md says what holds there.

    Raises:
        FileExistsError: if the file exists already.
    """
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, Path):
        _create_locally(path, data)
        return
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
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    sync(path.parent)


def names_in(directory: Location) -> list[str]:
    """Return the sorted names in a directory without hidden (temporary) ones.

    A directory that does not exist has no names.
    """
    try:
        if isinstance(directory, Path):
            names = [entry.name for entry in os.scandir(directory)]
        else:
            paths = directory.fs.ls(directory.path, detail=False)
            names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def read_many(directory: Location, names: Iterable[str]) -> Mapping[str, bytes]:
    """Read files of a directory: name -> content, without files that cannot be read."""
    if isinstance(directory, Path):
        local_contents = {}
        for name in names:
            with contextlib.suppress(OSError), open(f"{directory}/{name}", "rb") as file:  # noqa: PTH123
                local_contents[name] = file.read()
        return local_contents
    paths = {f"{directory.path.rstrip('/')}/{name}": name for name in names}
    if not paths:
        return {}
    contents: Mapping[str, Any] = directory.fs.cat(list(paths), on_error="return")
    by_name = {str(path).rsplit("/", 1)[-1]: content for path, content in contents.items()}
    return {name: content for name, content in by_name.items() if isinstance(content, bytes)}


def upload(source: Path, target: UPath) -> None:
    """Put one file on a remote store."""
    target.fs.put_file(str(source), target.path)


def sizes_below(directory: Location) -> dict[str, int]:
    """List every file below a directory: path relative to it, joined by ``/`` -> bytes."""
    if isinstance(directory, Path):
        return {
            path.relative_to(directory).as_posix(): path.stat().st_size
            for path in directory.rglob("*")
            if path.is_file()
        }
    try:
        files = directory.fs.find(directory.path, detail=True)
    except FileNotFoundError:
        return {}
    prefix = f"{directory.fs._strip_protocol(directory.path)}/"
    return {str(path).removeprefix(prefix): int(info["size"]) for path, info in files.items()}


def remove(path: Location) -> None:
    """Remove a file or a whole directory, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        if not isinstance(path, Path):
            path.fs.rm(path.path, recursive=True)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
