"""One attempt at one shard, from its start record to its end record."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sekd.data.shards import ShardResult
from sekd.errors import ShardError
from sekd.io.faults import StorageError, single_try
from sekd.io.files import create_exclusively, remove, sync, upload, write_atomically
from sekd.io.hashing import hash_file
from sekd.io.locations import Location
from sekd.io.records import seal
from sekd.pipeline.liveness import Heartbeat
from sekd.pipeline.names import RecordKind, attempt_name, new_data_folder, record_name

_running: set[tuple[str, str]] = set()
"""Attempts that run in this process: directory and name of each."""


def is_running_here(directory: Location, name: str) -> bool:
    """Tell whether the attempt of that name runs in this process."""
    return (str(directory), name) in _running


def failure_text(error: BaseException) -> str:
    """Describe a failure for records and events: the error's type and its message."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


class AttemptEndedError(ShardError):
    """Another process believed this attempt dead and ended it first; its files are not used."""


class Attempt:
    """One attempt at one shard.

    Data files are written into :attr:`folder`, a directory of this machine. If the stage is on a
    remote store, they are uploaded at the commit.

    Attributes:
        num_samples: samples that went through so far; the heartbeat tells other processes.
    """

    def __init__(self, directory: Location, shard: int, number: int) -> None:
        self.shard = shard
        self.number = number
        self.num_samples = 0
        self._folder: Path | None = None
        self._attempts = directory / "attempts"
        self._data = directory / "data" / new_data_folder(shard, number)
        self._key = (str(directory), self.name)
        self._started, self._clock = time.time(), time.monotonic()
        self._heartbeat: Heartbeat | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def name(self) -> str:
        """Name of the attempt, unique in the stage, e.g. ``00017-002``."""
        return attempt_name(self.shard, self.number)

    @property
    def folder(self) -> Path:
        """Directory of this machine for the attempt's data files, made at the first use."""
        if self._folder is None:
            if isinstance(self._data, Path):
                self._data.mkdir(parents=True)
                self._folder = self._data
            else:
                self._scratch = tempfile.TemporaryDirectory(prefix=f"sekd-{self.name}-")
                self._folder = Path(self._scratch.name)
        return self._folder

    def start(self) -> None:
        """Start the heartbeat; the start record exists already."""
        _running.add(self._key)
        self._heartbeat = Heartbeat(self._beat)

    def commit(self, result: ShardResult, key: str = "") -> None:
        """Flush, hash and store the data files, then write the end record, which is the commit.

        Args:
            key: that of the shard, see :class:`~sekd.data.shards.Shard`.

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
            key=key,
            files=files,
            num_done=result.num_done,
            quarantined=[asdict(sample) for sample in result.quarantined],
            figures=dict(result.stats),
        )

    def fail(self, error: Exception) -> None:
        """Record that this attempt failed, and why."""
        self.end(status="failed", error=failure_text(error))

    def interrupt(self, error: BaseException) -> None:
        """Record that a person, or storage, stopped this attempt.

        It does not count against the shard. If storage takes no record, the start record is
        removed; if that fails as well, the next run takes the attempt for lost.
        """
        with contextlib.suppress(OSError, ShardError, StorageError), single_try():
            if isinstance(error, Exception) and not self._record("end").exists():
                self._remove_files()  # make room for the record
            try:
                self.end(status="interrupted", error=failure_text(error))
            except StorageError:
                remove(self._record("start"))

    def end(self, **fields: Any) -> None:
        """Write the end record, unless another process has written one.

        Raises:
            AttemptEndedError: another process ended this attempt first.
        """
        content = {
            "shard": self.shard,
            "attempt": self.number,
            **fields,
            "started": self._started,
            "ended": time.time(),
            "seconds": time.monotonic() - self._clock,
        }
        path = self._record("end")
        try:
            create_exclusively(path, seal(content))
        except FileExistsError as error:
            raise AttemptEndedError(f"{path}: another process ended this attempt") from error
        self.release()

    def release(self) -> None:
        """Stop the heartbeat and free what is temporary.

        An attempt that is released without an end record is lost.
        """
        _running.discard(self._key)
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
            with contextlib.suppress(OSError, StorageError), single_try():
                remove(self._record("beat"))
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _remove_files(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _record(self, kind: RecordKind) -> Location:
        return self._attempts / record_name(self.shard, self.number, kind)

    def _beat(self, count: int) -> None:
        content = json.dumps({"count": count, "num_samples": self.num_samples})
        with single_try():
            write_atomically(self._record("beat"), content + "\n")
