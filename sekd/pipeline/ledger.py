"""The ledger: what was tried and what is done, as immutable records.

An attempt begins with ``attempts/00017-002.start.json``, writes its data files into a folder that
no other attempt uses, and ends with ``attempts/00017-002.end.json``. **The end record is the
commit**: data files without one count for nothing. Both are created exclusively: of several
processes that claim an attempt, one gets it, and of a worker and those who believe it dead, one
ends it. Two more kinds of record stand beside them: ``revoked`` says that an attempt's files were
found damaged, ``retry`` that its shard's budget starts again after it.

Status is always derived from the records. A process that was killed leaves a ``lost`` attempt, and
lost attempts use up a shard's budget like failed ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sekd.data.shards import Shard
from sekd.io.faults import StorageError, optional
from sekd.io.files import create_exclusively, names_in, read_many, remove
from sekd.io.locations import Location
from sekd.io.processes import is_alive, this_process
from sekd.io.records import seal, unseal
from sekd.pipeline.attempt import Attempt, AttemptEndedError, is_running_here
from sekd.pipeline.liveness import Observer
from sekd.pipeline.names import attempt_name, parse_record_name, record_name

Status = Literal["pending", "running", "done", "failed", "lost", "damaged"]

PROCESS_DIED = "the process died on it"
"""Error of an attempt whose process is gone and left no end record."""

_AttemptNumbers: TypeAlias = dict[str, set[int]]
"""Kind of record -> numbers of a shard's attempts that have one."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """The state of a shard.

    Attributes:
        num_attempts: number of the last attempt, 0 if there was none.
        num_used: attempts that count against the budget.
        record: the end record that the status follows from, if there is one.
    """

    status: Status
    num_attempts: int
    num_used: int
    record: Mapping[str, Any] | None


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
            StorageError: if it cannot be recorded.
        """
        content = {
            "shard": shard,
            "attempt": number,
            "process": this_process(),
            "started": time.time(),
        }
        attempt = Attempt(self.directory, shard, number)
        path, record = self.attempts / record_name(shard, number, "start"), seal(content)
        try:
            create_exclusively(path, record)
        except StorageError:
            # The record may have been made before the fault, and would look like a lost attempt.
            with optional(f"the removal of {path}"):
                if path.read_bytes() == record:
                    remove(path)
            raise
        attempt.start()
        return attempt

    def begin(self, shard: int) -> Attempt:
        """Start the next attempt at a shard."""
        number = self.last_number(shard)
        while True:
            number += 1
            try:
                return self.claim(shard, number)
            except FileExistsError:
                continue

    def last_number(self, shard: int) -> int:
        """Return the number of the last attempt that was started, 0 if there was none."""
        return max(self._attempt_numbers().get(shard, _no_records())["start"], default=0)

    def give_up(
        self, shard: int, number: int, status: Literal["lost", "failed", "interrupted"], why: str
    ) -> bool:
        """End an attempt in place of its dead worker.

        Returns:
            ``False`` if the attempt never began or has ended already.
        """
        if record_name(shard, number, "start") not in names_in(self.attempts):
            return False
        try:
            Attempt(self.directory, shard, number).end(status=status, error=why)
        except AttemptEndedError:
            return False
        return True

    def revoke(self, shard: int, number: int, why: str) -> None:
        """Record that the files of an attempt are damaged, so that it no longer counts."""
        content = {"reason": why, "at": time.time()}
        self._create_once(record_name(shard, number, "revoked"), content)

    def grant_retry(self, shard: int, after: int) -> None:
        """Grant a shard its budget again, for attempts after this one. History is kept.

        If that attempt is done, it counts until a later one is done as well.
        """
        self._create_once(record_name(shard, after, "retry"), {"at": time.time()})

    def revoked(self) -> set[tuple[int, int]]:
        """Return shard and number of every attempt that no longer counts."""
        return {
            (shard, number)
            for shard, numbers in self._attempt_numbers().items()
            for number in numbers["revoked"]
        }

    def states(self, shards: Iterable[Shard], observer: Observer | None = None) -> list[ShardState]:
        """Derive the status of these shards, in their order, from the records alone.

        Args:
            observer: decides on attempts of other machines whose heartbeat stopped; without one
                they are running.
        """
        by_shard = self._attempt_numbers()
        numbers = [(shard, by_shard.get(shard.index, _no_records())) for shard in shards]
        self._read(
            record_name(shard.index, number, "end")
            for shard, kinds in numbers
            for number in kinds["end"]
        )
        return [self._state(shard, kinds, observer) for shard, kinds in numbers]

    def tried(self) -> list[int]:
        """Return the shards that have any record, in order."""
        return sorted(self._attempt_numbers())

    def unfinished(self) -> list[tuple[int, int]]:
        """Return shard and number of every attempt without an end record."""
        return [
            (shard, number)
            for shard, numbers in self._attempt_numbers().items()
            for number in sorted(numbers["start"] - numbers["end"])
        ]

    def is_lost(self, shard: int, number: int, observer: Observer | None) -> bool:
        """Tell whether the process behind an unfinished attempt is dead, or believed to be."""
        name, start_name = attempt_name(shard, number), record_name(shard, number, "start")
        self._read([start_name])
        start = self._records[start_name]
        if is_running_here(self.directory, name):
            return False
        if start is not None:
            alive = is_alive(start["process"])
            if alive is not None:
                # A process that is this one lives, but has released the attempt.
                return not alive or start["process"] == this_process()
        if observer is None:
            return False
        beat_name = record_name(shard, number, "beat")
        return observer.has_stopped(name, read_many(self.attempts, [beat_name]).get(beat_name))

    def _attempt_numbers(self) -> dict[int, _AttemptNumbers]:
        """List the records of every shard."""
        by_shard: dict[int, _AttemptNumbers] = {}
        for name in names_in(self.attempts):
            record = parse_record_name(name)
            if record is not None and record[2] != "beat":
                shard, number, kind = record
                by_shard.setdefault(shard, _no_records())[kind].add(number)
        return by_shard

    def _create_once(self, name: str, content: Mapping[str, Any]) -> None:
        """Create a record unless it exists already."""
        try:
            create_exclusively(self.attempts / name, seal(content))
        except FileExistsError:
            return

    def _read(self, names: Iterable[str]) -> None:
        """Read the records that were not read yet; a record never changes."""
        new = [name for name in names if name not in self._records]
        contents = read_many(self.attempts, new)
        for name in new:
            try:
                self._records[name] = unseal(contents.get(name, b""))
            except ValueError:
                self._records[name] = None

    def _state(
        self, shard: Shard, numbers: _AttemptNumbers, observer: Observer | None
    ) -> ShardState:
        """Derive the status of a shard from its attempts, which are taken in order.

        An attempt counts as done only for the key that it was made for.
        """
        attempts = sorted(numbers["start"] | numbers["end"])
        last_before_budget = max(numbers["retry"], default=0)
        status, num_used = "pending", 0
        record: Mapping[str, Any] | None = None
        earlier: Mapping[str, Any] | None = None
        for number in attempts:
            if number in numbers["revoked"]:
                status, record = "damaged", None
            elif number in numbers["end"]:
                record = self._records[record_name(shard.index, number, "end")]
                status = record["status"] if record else "damaged"
                if status == "done" and record and shard.key not in ("", record.get("key")):
                    status, record = "damaged", None
            else:
                record = None
                if status != "running":  # an earlier attempt that still runs decides
                    is_lost = self.is_lost(shard.index, number, observer)
                    status = "lost" if is_lost else "running"
            if status == "done" and number <= last_before_budget:
                # It has quarantined samples that are to be tried again; it counts until they are.
                status, earlier = "pending", record
                continue
            if status == "done":
                return ShardState("done", max(attempts), num_used, record)
            if status in ("failed", "lost") and number > last_before_budget:
                num_used += 1
            elif earlier is not None and status != "running":
                status = "pending"
        if earlier is not None:
            record = earlier
            status = "done" if status in ("failed", "lost") else status
        return ShardState(_STATUSES[status], max(attempts, default=0), num_used, record)


_STATUSES: Mapping[str, Status] = {
    "pending": "pending",
    "interrupted": "pending",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "lost": "lost",
    "damaged": "damaged",
}


def _no_records() -> _AttemptNumbers:
    return {"start": set(), "end": set(), "revoked": set(), "retry": set()}
