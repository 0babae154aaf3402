"""Let one process at a time do a piece of work that is not made of shards, such as a training."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sekd.errors import ConfigError
from sekd.io.faults import optional
from sekd.io.files import read_many
from sekd.io.locations import Location
from sekd.io.processes import is_alive
from sekd.io.records import unseal
from sekd.pipeline.ledger import PROCESS_DIED, Ledger
from sekd.pipeline.liveness import Observer
from sekd.pipeline.names import record_name

logger = logging.getLogger(__name__)

_SHARD = 0
"""The work is recorded like attempts at one shard; none of them is ever ``done``."""
_POLL_SECONDS = 1.0


@contextmanager
def sole_process(directory: Location, what: str) -> Iterator[None]:
    """Do the work of this block in no other process at the same time.

    What a dead process left is no obstacle. Whether a process of another machine lives shows in its
    heartbeat, which is watched for up to a minute.

    Args:
        directory: where the work is recorded, in ``attempts/``.
        what: the work as a verb, for messages, such as ``trains``.

    Raises:
        ConfigError: if another process does it, which is named.
    """
    ledger = Ledger(directory)
    while True:
        number = _refuse_second(ledger, what) + 1
        try:
            attempt = ledger.claim(_SHARD, number)
            break
        except FileExistsError:  # another process was faster
            continue
    try:
        yield
        with optional(f"the end of {directory}"):
            attempt.end(status="ended")
    except BaseException as error:
        attempt.interrupt(error)
        raise
    finally:
        attempt.release()


def _refuse_second(ledger: Ledger, what: str) -> int:
    """Return the number of the last attempt, if no process works at one.

    Raises:
        ConfigError: if one does.
    """
    # The number comes first: an attempt that begins after this line has a higher one.
    last_number = ledger.last_number(_SHARD)
    observer, first_beats = Observer(), dict[int, bytes | None]()
    while unfinished := ledger.unfinished():
        for shard, number in unfinished:
            if ledger.is_lost(shard, number, observer):
                ledger.give_up(shard, number, "lost", PROCESS_DIED)
                continue
            process = _read_process(ledger, number)
            beat_name = record_name(_SHARD, number, "beat")
            beat = read_many(ledger.attempts, [beat_name]).get(beat_name)
            if number not in first_beats and not is_alive(process):
                logger.info("%s: watching whether %s still lives", ledger.directory, process)
            if is_alive(process) or first_beats.setdefault(number, beat) != beat:
                raise ConfigError(
                    f"{ledger.directory}: process {process.get('pid')} of "
                    f"{str(process.get('host')).split(' ')[0]} {what} there; wait until it has "
                    "ended, or stop it, and run again"
                )
        time.sleep(_POLL_SECONDS)
    return last_number


def _read_process(ledger: Ledger, number: int) -> Mapping[str, Any]:
    """Return the process of an attempt as its start record has it; empty if that is damaged."""
    name = record_name(_SHARD, number, "start")
    try:
        process: Mapping[str, Any] = unseal(read_many(ledger.attempts, [name])[name])["process"]
    except (KeyError, ValueError):
        return {}
    return process
