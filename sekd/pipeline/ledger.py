"""The ledger: what was tried and what is done, as immutable records.

An attempt begins with ``attempts/00017-002.start.json``, writes its data files into a folder that
no other attempt uses, and ends with ``attempts/00017-002.end.json``. **The end record is the
commit**: data files without one count for nothing. Both are created exclusively, so of several
processes one gets an attempt, and of a worker and those who believe it dead one ends it. Two more
kinds of record stand beside them: ``revoked`` says that an attempt's files were found damaged,
``retry`` that its shard's budget starts again behind it.

Status is always derived from the records. A process that was killed leaves a ``lost`` attempt, and
lost attempts use up a shard's budget like failed ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sekd.data.shards import Shard
from sekd.io.files import create_exclusively, names_in, read_many
from sekd.io.locations import Location
from sekd.io.records import seal, unseal
from sekd.pipeline.attempt import Attempt, AttemptEndedError, is_running_here
from sekd.pipeline.liveness import Observer, is_alive, this_process

Status = Literal["pending", "running", "done", "failed", "lost", "damaged"]


@dataclass(frozen=True, slots=True)
class ShardState:
    """Where a shard stands.

    Attributes:
        num_attempts: number of the last attempt, 0 if there was none.
        num_used: attempts that count against the budget.
        record: the end record that the status follows from, if there is one.
    """

    status: Status
    num_attempts: int
    num_used: int
    record: Mapping[str, Any] | None


@dataclass
class _Marks:
    """Which records a shard has: attempt numbers by kind."""

    start: set[int] = field(default_factory=set)
    end: set[int] = field(default_factory=set)
    revoked: set[int] = field(default_factory=set)
    retry: set[int] = field(default_factory=set)


class Ledger:
    """The attempts of one stage, in ``directory/attempts``, ``data`` and ``logs``."""

    def __init__(self, directory: Location) -> None:
        self.directory = directory
        self.attempts = directory / "attempts"
        self.data = directory / "data"
        self.logs = directory / "logs"
        self._records: dict[str, dict[str, Any] | None] = {}

    def claim(self, shard: int, number: int) -> Attempt:
        """Start this attempt at a shard.

        Raises:
            FileExistsError: another process has it.
        """
        content = {
            "shard": shard,
            "attempt": number,
            "process": this_process(),
            "started": time.time(),
        }
        attempt = Attempt(self.directory, shard, number)
        if isinstance(self.logs, Path):
            self.logs.mkdir(parents=True, exist_ok=True)
        create_exclusively(self.attempts / f"{attempt.name}.start.json", seal(content))
        attempt.start()
        return attempt

    def begin(self, shard: int) -> Attempt:
        """Start the next attempt at a shard."""
        number = max(self._marks().get(shard, _Marks()).start, default=0)
        while True:
            number += 1
            try:
                return self.claim(shard, number)
            except FileExistsError:
                continue

    def give_up(self, shard: int, number: int, status: Literal["lost", "failed"], why: str) -> bool:
        """End an attempt in its dead worker's place; ``False`` if it never began or has ended."""
        attempt = Attempt(self.directory, shard, number)
        if f"{attempt.name}.start.json" not in names_in(self.attempts):
            return False
        try:
            attempt.end(status=status, error=why)
        except AttemptEndedError:
            return False
        return True

    def revoke(self, shard: int, number: int, why: str) -> None:
        """Record that the files of an attempt are damaged: it counts no longer."""
        self._mark(shard, number, "revoked", {"reason": why, "at": time.time()})

    def grant_retry(self, shard: int, after: int) -> None:
        """Grant a shard its budget again, from behind this attempt; history is kept."""
        self._mark(shard, after, "retry", {"at": time.time()})

    def revoked(self) -> set[tuple[int, int]]:
        """Shard and number of every attempt that no longer counts."""
        return {(index, n) for index, each in self._marks().items() for n in each.revoked}

    def _mark(self, shard: int, number: int, kind: str, content: Mapping[str, Any]) -> None:
        name = f"{Attempt(self.directory, shard, number).name}.{kind}.json"
        try:
            create_exclusively(self.attempts / name, seal(content))
        except FileExistsError:
            return

    def states(self, shards: Iterable[Shard], observer: Observer | None = None) -> list[ShardState]:
        """Status of these shards, in their order, derived from the records alone.

        Args:
            observer: decides on attempts of other machines that stopped beating; without one they
                are running.
        """
        marks = self._marks()
        found = [(shard.index, marks.get(shard.index, _Marks())) for shard in shards]
        self._read(f"{_name(index, n)}.end.json" for index, each in found for n in each.end)
        return [self._state(index, each, observer) for index, each in found]

    def tried(self) -> list[int]:
        """Shards with any record, in order."""
        return sorted(self._marks())

    def unended(self) -> list[tuple[int, int]]:
        """Shard and number of every attempt without an end."""
        marks = self._marks().items()
        return [(index, n) for index, each in marks for n in sorted(each.start - each.end)]

    def is_gone(self, shard: int, number: int, observer: Observer | None) -> bool:
        """Whether the process behind an unended attempt is dead, or believed to be."""
        name = _name(shard, number)
        self._read([f"{name}.start.json"])
        start = self._records[f"{name}.start.json"]
        if is_running_here(self.directory, name):
            return False
        alive = is_alive(start["process"]) if start else None
        if alive is not None:
            # This very process lives, but has let go of the attempt.
            return not alive or start["process"] == this_process()  # type: ignore[index]
        if observer is None:
            return False
        beat = f"{name}.beat.json"
        return observer.is_still(name, read_many(self.attempts, [beat]).get(beat))

    def _marks(self) -> dict[int, _Marks]:
        marks: dict[int, _Marks] = {}
        for name in names_in(self.attempts):
            attempt, kind, _ = name.split(".")
            if kind != "beat":
                shard, number = attempt.split("-")
                getattr(marks.setdefault(int(shard), _Marks()), kind).add(int(number))
        return marks

    def _read(self, names: Iterable[str]) -> None:
        """Read records that were not read yet; they never change."""
        new = [name for name in names if name not in self._records]
        contents = read_many(self.attempts, new)
        for name in new:
            try:
                self._records[name] = unseal(contents.get(name, b""))
            except ValueError:
                self._records[name] = None

    def _state(self, shard: int, marks: _Marks, observer: Observer | None) -> ShardState:
        numbers = sorted(marks.start | marks.end)
        last = max(numbers, default=0)
        budget_from = max(marks.retry, default=0)
        num_used, status, kept = 0, "pending", None
        for number in numbers:
            record = None
            if number in marks.revoked:
                status, kept = "damaged", None
                continue
            if number in marks.end:
                record = self._records[f"{_name(shard, number)}.end.json"]
                status = record["status"] if record else "damaged"
            elif status != "running":
                status = "lost" if self.is_gone(shard, number, observer) else "running"
            kept = record
            if status == "done":
                return ShardState("done", last, num_used, record)
            num_used += status in ("failed", "lost") and number > budget_from
        return ShardState(_STATUSES[status], last, num_used, kept)


_STATUSES: Mapping[str, Status] = {
    "pending": "pending",
    "interrupted": "pending",
    "running": "running",
    "failed": "failed",
    "lost": "lost",
    "damaged": "damaged",
}


def _name(shard: int, number: int) -> str:
    return f"{shard:05d}-{number:03d}"
