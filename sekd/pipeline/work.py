"""Claim, process and commit one shard, in the same way under every executor."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from sekd.data.shards import Shard, ShardResult
from sekd.errors import FatalError, ShardError
from sekd.io.faults import StorageError, fault_kind, optional, retry
from sekd.io.files import upload
from sekd.io.locations import Location
from sekd.io.log_file import LogFile
from sekd.pipeline.attempt import Attempt, AttemptEndedError, failure_text
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.names import log_name

logger = logging.getLogger(__name__)

_RETRY_DELAYS = (1.0, 15.0)
"""Seconds before a shard is done again that a passing fault ended. What fails often (records,
images) is tried again by itself before that."""


class Worker(Protocol):
    """Processes shard after shard with one loaded engine."""

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Write the shard's files into ``folder``, reopen and check them, and describe them.

        Args:
            advance: is called with the number of samples that just went through.

        Raises:
            ShardError: if the shard failed; another one may not.
            FatalError: if the worker is broken.
        """
        ...

    def close(self) -> None:
        """Free the engine."""
        ...


@dataclass(frozen=True)
class Claim:
    """A shard for a worker to try, and the number of the attempt."""

    shard: Shard
    number: int


@dataclass(frozen=True)
class Event:
    """An event in the life of a shard.

    Attributes:
        kind: ``taken`` if another runner has claimed the attempt already.
        num_samples: samples that went through since the last event (of ``advanced``); negative
            where an attempt ended that did not count.
        num_quarantined: samples that were quarantined (of ``done``).
        error: the error's type and message (of ``failed``).
    """

    kind: Literal["advanced", "done", "failed", "taken"]
    shard: int
    num_samples: int = 0
    num_quarantined: int = 0
    error: str = ""


@dataclass(frozen=True)
class Job:
    """Everything that an executor needs to process a stage's shards, in this process or another.

    Attributes:
        shard_timeout: seconds after which an attempt is given up; ``None`` for never.
        max_quarantined_in_row: samples quarantined one after another at which the run stops.
    """

    directory: Location
    open_worker: Callable[[], Worker]
    shard_timeout: float | None = None
    max_quarantined_in_row: int | None = None


def run_claim(
    ledger: Ledger,
    claim: Claim,
    worker: Worker,
    report: Callable[[Event], None],
    *,
    timeout: float | None = None,
    max_quarantined_in_row: int | None = None,
) -> None:
    """Try one shard and record how it went.

    Args:
        max_quarantined_in_row: see :class:`Job`.
        timeout: seconds after which the worker is interrupted. It can be interrupted only in the
            main thread and between two steps of Python.

    Raises:
        StorageError: if storage stays at fault. No attempt at the shard is used up by that.
        FatalError: if the worker is broken.
    """
    numbers = itertools.count(claim.number)

    def try_once() -> Event:
        try:
            attempt = ledger.claim(claim.shard.index, next(numbers))
        except FileExistsError:
            return Event("taken", claim.shard.index)
        try:
            with _attempt_log(ledger.logs / log_name(attempt.shard, attempt.number)):
                return _try_shard(
                    attempt, claim.shard, worker, report, timeout, max_quarantined_in_row
                )
        except BaseException as error:  # a person, or storage, stopped the attempt
            attempt.interrupt(error)
            if isinstance(error, Exception):  # the shard is perhaps done again
                report(Event("advanced", claim.shard.index, num_samples=-attempt.num_samples))
            raise
        finally:
            attempt.release()

    report(retry(try_once, ledger.directory, _RETRY_DELAYS))


def _try_shard(
    attempt: Attempt,
    shard: Shard,
    worker: Worker,
    report: Callable[[Event], None],
    timeout: float | None,
    max_quarantined_in_row: int | None,
) -> Event:
    """Process and commit a shard.

    What storage ended is raised, and not recorded as a failure of the shard.
    """

    def advance(num_samples: int) -> None:
        attempt.num_samples += num_samples
        report(Event("advanced", shard.index, num_samples=num_samples))

    logger.debug("attempt %s at %d samples", attempt.name, len(shard.sample_ids))
    try:
        with _alarm(timeout):
            result = worker.process(shard, attempt.folder, advance)
        num_seen = result.num_done + len(result.quarantined)
        if num_seen != len(shard.sample_ids):
            raise ShardError(f"{num_seen} samples came back of {len(shard.sample_ids)} planned")
        _refuse_streak(shard, result, max_quarantined_in_row)
        for sample in result.quarantined:
            logger.warning("quarantined %s: %s", sample.sample_id, sample.reason)
        attempt.commit(result, shard.key)
        return Event("done", shard.index, num_quarantined=len(result.quarantined))
    except Exception as error:  # the shard's boundary: the error is recorded, other shards go on
        logger.debug("shard %d failed", shard.index, exc_info=True)
        if isinstance(error, StorageError) or fault_kind(error) is not None:
            raise
        with suppress(AttemptEndedError):  # another process has ended the attempt
            attempt.fail(error)
        if isinstance(error, FatalError):
            raise
        logger.warning("shard %d failed: %s", shard.index, error)
        return Event("failed", shard.index, error=failure_text(error))


def _refuse_streak(shard: Shard, result: ShardResult, limit: int | None) -> None:
    """Stop the run if too many samples in a row are quarantined, as when a disk is gone.

    Raises:
        StorageError: naming the last of them.
    """
    reasons = {sample.sample_id: sample.reason for sample in result.quarantined}
    in_row = 0
    for sample_id in shard.sample_ids:
        in_row = in_row + 1 if sample_id in reasons else 0
        if in_row == limit:
            raise StorageError(
                f"{limit} samples one after another cannot be used, the last one {sample_id}: "
                f"{reasons[sample_id]}; nothing of shard {shard.index} was set aside. See whether "
                "the images are there, or raise runtime.max_consecutive_quarantined"
            )


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raise a ``ShardError`` in this block after that time, if this is the main thread.

    Only the main thread receives signals.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise ShardError(f"no end after {seconds:g} s (runtime.shard_timeout)")

    previous_handler = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False)


@contextmanager
def _attempt_log(path: Location) -> Iterator[None]:
    """Write what sekd logs during this block into a file, as one JSON object per line."""
    with tempfile.TemporaryDirectory() as scratch:
        local_path = path if isinstance(path, Path) else Path(scratch) / path.name
        with suppress(OSError):
            local_path.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(local_path)
        handler.setFormatter(_JsonFormatter())
        root = logging.getLogger("sekd")
        root.addHandler(handler)
        level = root.level
        root.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.setLevel(level)
            root.removeHandler(handler)
            handler.close()
            if not isinstance(path, Path):
                with optional("the log of an attempt"):
                    upload(local_path, path)
