"""The ledger: what was tried and what is done, as immutable records on disk.

An attempt begins with ``attempts/00017-002.start.json``, created exclusively, writes its data files
under names that no other attempt uses, and ends with ``attempts/00017-002.end.json``, one atomic
rename. **The end record is the commit**: data files without one count for nothing. Status is always
derived from the records, so a process that was killed leaves a ``lost`` attempt, and lost attempts
use up a shard's budget like failed ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sekd.data.hashing import hash_file
from sekd.data.shards import Shard, ShardResult
from sekd.errors import FatalError
from sekd.pipeline.files import create_exclusively, sync, write_atomically

Status = Literal["pending", "done", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class ShardState:
    """Where a shard stands after its last attempt."""

    status: Status
    num_attempts: int
    record: Mapping[str, Any] | None
    """The end record of the last attempt, if it has one."""


class Attempt:
    """One try at one shard, from its start record to its end record."""

    def __init__(self, ledger: Ledger, shard: int, number: int) -> None:
        self.shard = shard
        self.number = number
        self._ledger = ledger
        self._started = time.time()

    @property
    def name(self) -> str:
        """Unique in the stage, e.g. ``00017-002``."""
        return f"{self.shard:05d}-{self.number:03d}"

    @property
    def folder(self) -> Path:
        """Where this attempt, and no other, writes its data files."""
        return self._ledger.data / self.name

    def commit(self, result: ShardResult) -> None:
        """Flush and hash the data files, then write the record that makes them count."""
        files = []
        for role, path in result.files.items():
            sync(path)
            name = path.relative_to(self._ledger.directory).as_posix()
            size = path.stat().st_size
            files.append({"role": role, "path": name, "bytes": size, "sha256": hash_file(path)})
        sync(self.folder)
        sync(self.folder.parent)
        self._end(
            status="done",
            files=files,
            num_done=result.num_done,
            quarantined=[asdict(sample) for sample in result.quarantined],
            figures=dict(result.figures),
        )

    def fail(self, error: Exception) -> None:
        """Record that this attempt failed and why."""
        self._end(status="failed", error=f"{type(error).__name__}: {error}")

    def _end(self, **record: Any) -> None:
        head = {"shard": self.shard, "attempt": self.number}
        times = {"started": self._started, "ended": time.time()}
        self._ledger.write_record(f"{self.name}.end.json", {**head, **record, **times})


class Ledger:
    """The attempts of one stage, in ``directory/attempts`` and ``directory/data``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.attempts = directory / "attempts"
        self.data = directory / "data"
        self.attempts.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(exist_ok=True)

    def begin(self, shard: int) -> Attempt:
        """Start the next attempt at a shard; its number is claimed by exclusive creation."""
        taken = [_parse(path)[1] for path in self.attempts.glob(f"{shard:05d}-*.start.json")]
        number = max(taken, default=0)
        while True:
            number += 1
            attempt = Attempt(self, shard, number)
            record = json.dumps({"shard": shard, "attempt": number, "started": time.time()})
            try:
                create_exclusively(self.attempts / f"{attempt.name}.start.json", record)
            except FileExistsError:
                continue
            attempt.folder.mkdir()
            return attempt

    def write_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Commit one end record."""
        write_atomically(self.attempts / name, json.dumps(record, ensure_ascii=False) + "\n")

    def states(self, shards: Iterable[Shard]) -> list[ShardState]:
        """Status of these shards, in their order, derived from the records alone.

        Raises:
            FatalError: if a record is not readable; the message names the file.
        """
        starts: dict[int, int] = {}
        ends: dict[int, dict[int, Path]] = {}
        for path in self.attempts.iterdir():
            if path.name.startswith("."):
                continue
            shard, number = _parse(path)
            if path.name.endswith(".start.json"):
                starts[shard] = max(starts.get(shard, 0), number)
            else:
                ends.setdefault(shard, {})[number] = path
        return [
            self._state(starts.get(shard.index, 0), ends.get(shard.index, {})) for shard in shards
        ]

    def _state(self, num_attempts: int, ends: Mapping[int, Path]) -> ShardState:
        if not num_attempts:
            return ShardState("pending", 0, None)
        records = {number: _read_record(path) for number, path in ends.items()}
        for record in records.values():
            if record["status"] == "done":
                return ShardState("done", num_attempts, record)
        if num_attempts in records:
            return ShardState("failed", num_attempts, records[num_attempts])
        return ShardState("lost", num_attempts, None)


def _parse(record: Path) -> tuple[int, int]:
    """Shard and attempt number of a record's name."""
    shard, number = record.name.split(".")[0].split("-")
    return int(shard), int(number)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf-8"))
        record["status"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"{path}: unreadable record ({error}); remove it to redo its shard"
        ) from error
    return dict(record)
