"""Claim, process and commit one shard, in the same way under every executor."""

from __future__ import annotations

import json
import logging
import shutil
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
from sekd.io.files import is_storage_error, upload
from sekd.io.locations import Location
from sekd.pipeline.attempt import Attempt, failure_text
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.names import log_name

logger = logging.getLogger(__name__)


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
        num_samples: samples that went through since the last event (of ``advanced``).
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
    """

    directory: Location
    open_worker: Callable[[], Worker]
    shard_timeout: float | None = None


def run_claim(
    ledger: Ledger,
    claim: Claim,
    worker: Worker,
    report: Callable[[Event], None],
    *,
    timeout: float | None = None,
) -> None:
    """Try one shard and record how it went.

    Args:
        timeout: seconds after which the worker is interrupted. It can be interrupted only in the
            main thread and between two steps of Python.

    Raises:
        FatalError: if the worker, or the place it writes to, is broken. This is recorded if the
            place still takes a record.
    """
    shard = claim.shard
    try:
        attempt = ledger.claim(shard.index, claim.number)
    except FileExistsError:
        report(Event("taken", shard.index))
        return
    except OSError as error:
        if is_storage_error(error):
            raise _cannot_be_written(ledger.directory, error) from error
        raise
    try:
        with _attempt_log(ledger.logs / log_name(shard.index, claim.number)):
            report(_try_shard(attempt, shard, worker, report, timeout))
    finally:
        attempt.release()


def _try_shard(
    attempt: Attempt,
    shard: Shard,
    worker: Worker,
    report: Callable[[Event], None],
    timeout: float | None,
) -> Event:
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
        for sample in result.quarantined:
            logger.warning("quarantined %s: %s", sample.sample_id, sample.reason)
        attempt.commit(result, shard.key)
        return Event("done", shard.index, num_quarantined=len(result.quarantined))
    except FatalError as error:
        logger.debug("stopped", exc_info=True)
        with suppress(ShardError):  # another process has ended the attempt: its record counts
            attempt.fail(error)
        raise
    except Exception as error:  # the shard's boundary: the error is recorded, other shards go on
        _stop_if_storage_error(error, attempt)
        logger.warning("shard %d failed: %s", shard.index, error)
        logger.debug("shard %d failed", shard.index, exc_info=True)
        with suppress(ShardError):  # as above
            attempt.fail(error)
        return Event("failed", shard.index, error=failure_text(error))
    except BaseException as error:
        with suppress(OSError, ShardError):
            attempt.interrupt(error)
        raise


def _stop_if_storage_error(error: Exception, attempt: Attempt) -> None:
    """Stop the run if its disk is full or read-only.

    Every other shard would fail as well, and use up its attempts.
    """
    if is_storage_error(error):
        shutil.rmtree(attempt.folder, ignore_errors=True)  # make room for the record
        with suppress(OSError, ShardError):
            try:
                attempt.interrupt(error)
            except OSError:
                attempt.withdraw()
        raise _cannot_be_written(attempt.folder, error) from error


def _cannot_be_written(place: Location, error: Exception) -> FatalError:
    return FatalError(
        f"{place}: cannot be written ({error}); make room or give permission and run again, what "
        "is done stays done"
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
        handler = logging.FileHandler(local_path, encoding="utf-8")
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
                with suppress(OSError):
                    upload(local_path, path)
