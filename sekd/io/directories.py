"""List files of this machine, and never take an error for an absence.

``Path.rglob`` leaves out, without a word, a folder that it may not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sekd.io.faults import retry


def list_entries(directory: Path) -> list[os.DirEntry[str]]:
    """List what is directly in a directory.

    Raises:
        FileNotFoundError: if it does not exist.
        StorageError: if it cannot be read.
    """

    def scan() -> list[os.DirEntry[str]]:
        with os.scandir(directory) as entries:
            return list(entries)

    return retry(scan, directory)


def entries_below(directory: Path) -> Iterator[Path]:
    """Yield what is below a directory and no directory itself, in no order: pipes and links, too.

    Links to directories are not followed. A directory that does not exist, or vanishes meanwhile,
    holds nothing.

    Raises:
        StorageError: if a directory cannot be read.
    """
    try:
        entries = list_entries(directory)
    except FileNotFoundError:
        return
    for entry in entries:
        if retry(partial(entry.is_dir, follow_symlinks=False), entry.path):
            yield from entries_below(Path(entry.path))
        else:
            yield Path(entry.path)


def files_below(directory: Path) -> Iterator[Path]:
    """Yield every regular file below a directory; see :func:`entries_below`."""
    for path in entries_below(directory):
        if retry(path.is_file, path):
            yield path
