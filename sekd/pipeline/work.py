"""What happens to one shard in one worker, under every executor: claim, process, commit."""

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
from sekd.io.files import is_unusable, upload
from sekd.io.locations import Location
from sekd.pipeline.attempt import Attempt
from sekd.pipeline.ledger import Ledger

logger = logging.getLogger(__name__)


class Worker(Protocol):
    """Does shard after shard with one loaded engine."""

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Write the shard's files into ``folder``, reopen and check them, and say what was done.

        Args:
            advance: to be called with the number of samples that just went through.

        Raises:
            ShardError: the shard failed, another may not.
            FatalError: the worker is broken.
        """
        ...

    def close(self) -> None:
        """Free the engine."""
        ...


@dataclass(frozen=True)
class Claim:
    """A shard that a worker is to try, and the number of the attempt."""

    shard: Shard
    number: int


@dataclass(frozen=True)
class Event:
    """What happened to a shard.

    Attributes:
        kind: ``taken`` where another runner was faster.
        num_samples: that went through since the last event (``advanced``).
        num_quarantined: of a shard that is done.
        error: of one that failed.
    """

    kind: Literal["advanced", "done", "failed", "taken"]
    shard: int
    num_samples: int = 0
    num_quarantined: int = 0
    error: str = ""


@dataclass(frozen=True)
class Job:
    """What executors need to do a stage's shards, in this process or in another one.

    Attributes:
        shard_timeout: seconds after which a shard is given up; ``None`` for never.
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
        timeout: seconds after which the worker is interrupted, where it can be: in the main thread
            and between two steps of Python.

    Raises:
        FatalError: the worker, or the place it writes to, is broken; recorded where that is
            possible.
    """
    shard = claim.shard
    try:
        attempt = ledger.claim(shard.index, claim.number)
    except FileExistsError:
        report(Event("taken", shard.index))
        return
    except OSError as error:
        if is_unusable(error):
            raise _unusable(ledger.directory, error) from error
        raise
    try:
        with _attempt_log(ledger.logs, attempt.name):
            report(_try(attempt, shard, worker, report, timeout))
    finally:
        attempt.let_go()


def _try(
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
        attempt.commit(result)
        return Event("done", shard.index, num_quarantined=len(result.quarantined))
    except FatalError as error:
        logger.debug("stopped", exc_info=True)
        attempt.fail(error)
        raise
    except Exception as error:  # the shard's boundary: recorded, and the others go on
        _stop_if_unusable(error, attempt)
        logger.warning("shard %d failed: %s", shard.index, error)
        logger.debug("shard %d failed", shard.index, exc_info=True)
        with suppress(ShardError):  # another process has ended it: then that is its record
            attempt.fail(error)
        return Event("failed", shard.index, error=f"{type(error).__name__}: {error}")
    except BaseException as error:
        with suppress(OSError, ShardError):
            attempt.interrupt(error)
        raise


def _stop_if_unusable(error: Exception, attempt: Attempt) -> None:
    """A full or read-only disk fails every shard: stop instead of using up all their attempts."""
    if is_unusable(error):
        shutil.rmtree(attempt.folder, ignore_errors=True)  # room for the record
        with suppress(OSError, ShardError):
            try:
                attempt.interrupt(error)
            except OSError:
                attempt.withdraw()
        raise _unusable(attempt.folder, error) from error


def _unusable(place: Location, error: Exception) -> FatalError:
    return FatalError(
        f"{place}: cannot be written ({error}); make room or give permission and run again, what "
        "is done stays done"
    )


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raise a ``ShardError`` in this block after that time; signals reach the main thread only."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise ShardError(f"no end after {seconds:g} s (runtime.shard_timeout)")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _JsonLines(logging.Formatter):
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
def _attempt_log(logs: Location, name: str) -> Iterator[None]:
    """What sekd logs meanwhile, a JSON object per line, into ``logs/<attempt>.jsonl``."""
    with tempfile.TemporaryDirectory() as scratch:
        path = logs / f"{name}.jsonl"
        here = path if isinstance(path, Path) else Path(scratch) / path.name
        handler = logging.FileHandler(here, encoding="utf-8")
        handler.setFormatter(_JsonLines())
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
                    upload(here, path)
