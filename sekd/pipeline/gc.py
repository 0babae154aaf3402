"""What no record makes count, and what may go: nothing that any reader could ever be led to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sekd.data.shards import Shard
from sekd.io.files import names_in, sizes_below
from sekd.io.locations import Location
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.plan import read_plan_record


@dataclass(frozen=True)
class Garbage:
    """A file or folder that may go."""

    path: Location
    num_bytes: int


def find_garbage(directory: Location) -> Iterator[Garbage]:
    """Files of attempts that ended without being done, and what killed processes left half way.

    An attempt that may still be running, here or elsewhere, keeps what it has. Records are never
    garbage: they are the history that budgets follow from.
    """
    ledger = Ledger(directory)
    # In this order: an attempt that ends meanwhile is seen as running or as done, never as neither.
    found = sizes_below(ledger.data)
    folders = names_in(ledger.data)
    running = {
        f"{shard:05d}-{number:03d}"
        for shard, number in ledger.unended()
        if not ledger.is_gone(shard, number, None)
    }
    tried = ledger.tried()
    states = ledger.states(Shard(index, ()) for index in tried)
    done = {
        Path(str(entry["path"])).parts[1]
        for state in states
        if state.status == "done" and state.record is not None
        for entry in state.record["files"]
    }
    for folder in folders:
        if folder not in done and folder.rpartition("-")[0] not in running:
            size = sum(size for path, size in found.items() if path.startswith(f"{folder}/"))
            yield Garbage(ledger.data / folder, size)
    for name in names_in(ledger.attempts):
        if name.endswith(".beat.json") and name.split(".")[0] not in running:
            yield Garbage(ledger.attempts / name, 0)
    yield from _half_written(directory)
    yield from _other_plans(directory)


def _half_written(directory: Location) -> Iterator[Garbage]:
    """Temporary files of dead processes: those that a second later are there as they were."""
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
    found = (*directory.glob(".*.tmp"), *(directory / "attempts").glob(".*.tmp"))
    sizes = {}
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            sizes[path] = path.stat().st_size
    return sizes


def _other_plans(directory: Location) -> Iterator[Garbage]:
    try:
        kept = read_plan_record(directory)["file"]
    except (FileNotFoundError, ValueError):
        return
    for name in names_in(directory):
        if name.startswith("plan-") and name != kept:
            yield Garbage(directory / name, int((directory / name).stat().st_size))
