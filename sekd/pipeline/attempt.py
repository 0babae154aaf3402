"""One try at one shard, from its start record to its end record."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sekd.data.shards import ShardResult
from sekd.errors import ShardError
from sekd.io.files import create_exclusively, remove, sync, upload, write_atomically
from sekd.io.hashing import hash_file
from sekd.io.locations import Location
from sekd.io.records import seal
from sekd.pipeline.liveness import Heartbeat

_running: set[tuple[str, str]] = set()
"""Attempts of this process, by directory and name."""


def is_running_here(directory: Location, name: str) -> bool:
    """Whether this very process is at the attempt."""
    return (str(directory), name) in _running


class AttemptEndedError(ShardError):
    """Another process believed this attempt dead and ended it first; what it did is not used."""


class Attempt:
    """One try at one shard.

    Data files are written into :attr:`folder`, a directory of this machine. Where the stage is on a
    remote store they are uploaded at the commit.
    """

    def __init__(self, directory: Location, shard: int, number: int) -> None:
        self.shard = shard
        self.number = number
        self.num_samples = 0
        """Samples that went through so far; the heartbeat tells others."""
        self._directory = directory
        self._started, self._clock = time.time(), time.monotonic()
        # Unique even where a store let two processes have one number.
        self._data = directory / "data" / f"{self.name}-{uuid.uuid4().hex[:6]}"
        self._heartbeat: Heartbeat | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.folder = Path()

    @property
    def name(self) -> str:
        """Unique in the stage, e.g. ``00017-002``."""
        return f"{self.shard:05d}-{self.number:03d}"

    def start(self) -> None:
        """Make the folder and let the heart beat; the start record is there."""
        _running.add((str(self._directory), self.name))
        self._heartbeat = Heartbeat(self._beat)
        if isinstance(self._data, Path):
            self._data.mkdir(parents=True)
            self.folder = self._data
        else:
            self._scratch = tempfile.TemporaryDirectory(prefix=f"sekd-{self.name}-")
            self.folder = Path(self._scratch.name)

    def commit(self, result: ShardResult) -> None:
        """Flush, hash and store the data files, then write the record that makes them count.

        Raises:
            AttemptEndedError: another runner believed this attempt dead and ended it.
        """
        files = []
        for role, path in result.files.items():
            name = path.relative_to(self.folder).as_posix()
            files.append(
                {
                    "role": role,
                    "path": f"data/{self._data.name}/{name}",
                    "bytes": path.stat().st_size,
                    "sha256": hash_file(path),
                }
            )
            if isinstance(self._data, Path):
                sync(path)
            else:
                upload(path, self._data / name)
        if isinstance(self._data, Path):
            sync(self._data)
            sync(self._data.parent)
        self.end(
            status="done",
            files=files,
            num_done=result.num_done,
            quarantined=[asdict(sample) for sample in result.quarantined],
            figures=dict(result.stats),
        )

    def fail(self, error: Exception) -> None:
        """Record that this attempt failed and why."""
        self.end(status="failed", error=f"{type(error).__name__}: {error}")

    def interrupt(self, error: BaseException) -> None:
        """Record that a person stopped it; that does not count against the shard."""
        self.end(status="interrupted", error=type(error).__name__)

    def withdraw(self) -> None:
        """Unmake the start record: for a disk so full that no other record finds room on it."""
        remove(self._directory / "attempts" / f"{self.name}.start.json")
        self.let_go()

    def end(self, **record: Any) -> None:
        """Write the end record; of all who try, the first one's counts."""
        content = {
            "shard": self.shard,
            "attempt": self.number,
            **record,
            "started": self._started,
            "ended": time.time(),
            "seconds": time.monotonic() - self._clock,
        }
        path = self._directory / "attempts" / f"{self.name}.end.json"
        try:
            create_exclusively(path, seal(content))
        except FileExistsError as error:
            raise AttemptEndedError(f"{path}: another process ended this attempt") from error
        self.let_go()

    def let_go(self) -> None:
        """Stop the heartbeat and free what is temporary; without an end the attempt is lost."""
        _running.discard((str(self._directory), self.name))
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
            with contextlib.suppress(OSError):
                remove(self._beat_path)
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    @property
    def _beat_path(self) -> Location:
        return self._directory / "attempts" / f"{self.name}.beat.json"

    def _beat(self, count: int) -> None:
        content = json.dumps({"count": count, "num_samples": self.num_samples})
        write_atomically(self._beat_path, content + "\n")
