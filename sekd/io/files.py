"""Reading and writing files so that a reader sees all of one or nothing, here or on a store.

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

_UNUSABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def is_unusable(error: BaseException) -> bool:
    """Whether an error says that a disk is full, read-only, forbidden or broken."""
    return isinstance(error, OSError) and error.errno in _UNUSABLE


def sync(path: Path) -> None:
    """Flush a file or a directory entry to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[Path]:
    """The content, flushed, under a name of its own beside ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Location, content: str | bytes) -> None:
    """Write a file, replacing what is there."""
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, Path):
        with _temporary(path, data) as temporary:
            temporary.replace(path)
        sync(path.parent)
    else:
        path.fs.pipe_file(path.path, data)


def create_exclusively(path: Location, content: str | bytes) -> None:
    """Write a new file; of several processes that try, one succeeds.

    A store without conditional writes cannot promise the latter; see docs/formats.md for what
    holds there.

    Raises:
        FileExistsError: if it is there already.
    """
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, Path):
        _create_locally(path, data)
        return
    if path.fs.exists(path.path):
        raise FileExistsError(errno.EEXIST, "there already", str(path))
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except OSError as error:
        # A PUT whose reply was lost is sent again, and then meets itself.
        with contextlib.suppress(OSError):
            if path.fs.cat_file(path.path) == data:
                return
            raise FileExistsError(errno.EEXIST, "there already", str(path)) from error
        raise


def _create_locally(path: Path, data: bytes) -> None:
    with _temporary(path, data) as temporary:
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
    """Names in a directory, temporary ones left out; none where there is no such directory."""
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
    """Name -> content; a file that cannot be read, or is gone, is left out."""
    if isinstance(directory, Path):
        found = {}
        for name in names:
            with contextlib.suppress(OSError), open(f"{directory}/{name}", "rb") as file:  # noqa: PTH123
                found[name] = file.read()
        return found
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
    """Path below a directory, joined by ``/`` -> bytes, of every file there."""
    if isinstance(directory, Path):
        return {
            path.relative_to(directory).as_posix(): path.stat().st_size
            for path in directory.rglob("*")
            if path.is_file()
        }
    try:
        found = directory.fs.find(directory.path, detail=True)
    except FileNotFoundError:
        return {}
    start = len(directory.fs._strip_protocol(directory.path)) + 1
    return {str(path)[start:]: int(info["size"]) for path, info in found.items()}


def remove(path: Location) -> None:
    """Remove a file or a whole folder, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if not isinstance(path, Path):
            path.fs.rm(path.path, recursive=True)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
