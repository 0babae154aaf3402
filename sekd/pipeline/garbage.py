"""Find files that no committed record refers to and that no reader can be led to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sekd.data.shards import Shard
from sekd.io.directories import list_entries
from sekd.io.faults import retry
from sekd.io.files import is_temporary, names_in, sizes_below, writer_of
from sekd.io.locations import Location, cache_directory, local_directory
from sekd.io.processes import is_tag_alive
from sekd.io.records import DamagedFileError
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.names import attempt_name, attempt_of_data_folder, parse_record_name
from sekd.pipeline.plan import read_revisions
from sekd.pipeline.plan_files import is_shards_file
from sekd.pipeline.products import product_directories, runs_of
from sekd.pipeline.status import stage_directories

_KEPT_SECONDS = 86_400
"""Age at which a temporary file of another machine, or of an earlier version, is garbage."""


@dataclass(frozen=True)
class Garbage:
    """A file or folder that may be removed."""

    path: Location
    num_bytes: int


def find_garbage(run: Location) -> Iterator[Garbage]:
    """Find what dead processes and failed attempts left of a run, its later rounds and the cache.

    An attempt or a writer that may still be running, here or elsewhere, keeps its files. Records
    are never garbage: they are the history that budgets follow from.
    """
    for _, directory in stage_directories(run):
        yield from find_stage_garbage(directory)
    for _, one in runs_of(run):
        for directory in product_directories(one):  # that of a training has attempts, too
            yield from _stale_beats(Ledger(directory))
    places = (run, local_directory(run), cache_directory())
    found = dict.fromkeys(
        path for place in places if isinstance(place, Path) for path in _temporary_below(place)
    )
    yield from _abandoned(found)


def find_stage_garbage(directory: Location) -> Iterator[Garbage]:
    """Find what attempts that ended without being done left in one directory of a stage."""
    ledger = Ledger(directory)
    # In this order, an attempt that ends meanwhile is seen as running or as done, never as neither.
    sizes = sizes_below(ledger.data)
    folders = names_in(ledger.data)
    running = _running(ledger)
    done = _done_folders(ledger)
    for folder in folders:
        attempt = attempt_of_data_folder(folder)
        if attempt is not None and folder not in done and attempt not in running:
            num_bytes = sum(size for path, size in sizes.items() if path.startswith(f"{folder}/"))
            yield Garbage(ledger.data / folder, num_bytes)
    yield from _stale_beats(ledger)
    yield from _unused_plans(directory)


def _running(ledger: Ledger) -> set[str]:
    """Return the names of the attempts that may be running."""
    return {
        attempt_name(shard, number)
        for shard, number in ledger.unfinished()
        if not ledger.is_lost(shard, number, None)
    }


def _stale_beats(ledger: Ledger) -> Iterator[Garbage]:
    """Find the heartbeats of processes that were killed."""
    names = names_in(ledger.attempts)  # first, so that a new attempt's start record is seen
    running = _running(ledger) if names else set()
    for name in names:
        record = parse_record_name(name)
        if record and record[2] == "beat" and attempt_name(*record[:2]) not in running:
            yield Garbage(ledger.attempts / name, 0)


def _done_folders(ledger: Ledger) -> set[str]:
    """Return the data folders of the attempts that are done."""
    states = ledger.states(Shard(index, ()) for index in ledger.tried())
    return {
        Path(str(entry["path"])).parts[1]
        for state in states
        if state.record is not None and state.record["status"] == "done"
        for entry in state.record["files"]
    }


def _temporary_below(directory: Path) -> Iterator[Path]:
    """Yield every temporary file and folder below a directory; what is in such a folder is not."""
    try:
        entries = list_entries(directory)
    except FileNotFoundError:
        return
    for entry in entries:
        path = Path(entry.path)
        if is_temporary(path):
            yield path
        elif retry(partial(entry.is_dir, follow_symlinks=False), path):
            yield from _temporary_below(path)


def _abandoned(temporary_files: Iterable[Path]) -> Iterator[Garbage]:
    """Find the temporary files of dead processes.

    Whether a process of another machine lives cannot be asked, so its files are kept for a day.
    """
    for path in temporary_files:
        tag = writer_of(path)
        with contextlib.suppress(FileNotFoundError):
            status = retry(path.stat, path)
            is_alive = None if tag is None else is_tag_alive(tag)
            if is_alive is None:
                is_alive = _clock_of(path.parent) - status.st_mtime < _KEPT_SECONDS
            if not is_alive:
                num_bytes = sum(sizes_below(path).values()) if path.is_dir() else status.st_size
                yield Garbage(path, num_bytes)


def _clock_of(folder: Path) -> float:
    """Return the time by the clock of a folder's file system, which may be that of a server."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _unused_plans(directory: Location) -> Iterator[Garbage]:
    """Find shards of runners that were not the first to store a revision of the plan."""
    try:
        files = {revision.file for revision in read_revisions(directory)}
    except DamagedFileError:  # one of them may be what mends it
        return
    for name in names_in(directory):
        if is_shards_file(name) and name not in files:
            yield Garbage(directory / name, int((directory / name).stat().st_size))
