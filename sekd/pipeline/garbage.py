"""Find files that no committed record refers to and that no reader can be led to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sekd.data.shards import Shard
from sekd.io.files import names_in, sizes_below
from sekd.io.locations import Location
from sekd.io.records import DamagedFileError
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.names import attempt_name, attempt_of_data_folder, parse_record_name
from sekd.pipeline.plan import read_revisions
from sekd.pipeline.plan_files import is_shards_file


@dataclass(frozen=True)
class Garbage:
    """A file or folder that may be removed."""

    path: Location
    num_bytes: int


def find_garbage(directory: Location) -> Iterator[Garbage]:
    """Find files of attempts that ended without being done, and what killed processes left behind.

    An attempt that may still be running, here or elsewhere, keeps its files. Records are never
    garbage: they are the history that budgets follow from.
    """
    ledger = Ledger(directory)
    # In this order, an attempt that ends meanwhile is seen as running or as done, never as neither.
    sizes = sizes_below(ledger.data)
    folders = names_in(ledger.data)
    running = {
        attempt_name(shard, number)
        for shard, number in ledger.unfinished()
        if not ledger.is_lost(shard, number, None)
    }
    done = _done_folders(ledger)
    for folder in folders:
        if folder not in done and attempt_of_data_folder(folder) not in running:
            num_bytes = sum(size for path, size in sizes.items() if path.startswith(f"{folder}/"))
            yield Garbage(ledger.data / folder, num_bytes)
    for name in names_in(ledger.attempts):
        shard, number, kind = parse_record_name(name)
        if kind == "beat" and attempt_name(shard, number) not in running:
            yield Garbage(ledger.attempts / name, 0)
    yield from _abandoned_temporary_files(directory)
    yield from _unused_plans(directory)


def _done_folders(ledger: Ledger) -> set[str]:
    """Return the data folders of the attempts that are done."""
    states = ledger.states(Shard(index, ()) for index in ledger.tried())
    return {
        Path(str(entry["path"])).parts[1]
        for state in states
        if state.status == "done" and state.record is not None
        for entry in state.record["files"]
    }


def _abandoned_temporary_files(directory: Location) -> Iterator[Garbage]:
    """Find temporary files of dead processes: those that do not change within a second."""
    if not isinstance(directory, Path):
        return
    before = _temporary_files(directory)
    if before:
        time.sleep(1)
    after = _temporary_files(directory)
    for path, size in before.items():
        if after.get(path) == size:
            yield Garbage(path, size)


def _temporary_files(directory: Path) -> dict[Path, int]:
    sizes = {}
    for folder in (directory, directory / "attempts"):
        for path in folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
    return sizes


def _unused_plans(directory: Location) -> Iterator[Garbage]:
    """Find shards of runners that were not the first to store a revision of the plan."""
    try:
        files = {revision.file for revision in read_revisions(directory)}
    except DamagedFileError:  # one of them may be what mends it
        return
    for name in names_in(directory):
        if is_shards_file(name) and name not in files:
            yield Garbage(directory / name, int((directory / name).stat().st_size))
