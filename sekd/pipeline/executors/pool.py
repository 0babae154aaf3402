"""Distribute claims to several worker processes, and survive worker deaths until none is left."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sekd.errors import ConfigError, FatalError, SekdError, in_one_line
from sekd.io.faults import optional
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.work import Claim, Event, Job

logger = logging.getLogger(__name__)

_MAX_DEATHS_UNOPENED = 3
"""Deaths of workers that never opened, after which a slot whose worker dies is not filled again."""
_MAX_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Ready:
    """The worker is open, or has ended its claim, and takes another one."""


@dataclass(frozen=True)
class Broken:
    """The worker cannot be opened or used; its process ends itself."""

    error: SekdError


@dataclass(frozen=True)
class Died:
    """The worker's process is gone and sent no message about it."""

    why: str


Message: TypeAlias = Event | Ready | Broken | Died


class WorkerHandle(ABC):
    """Handle of a process that holds one worker, which it starts to open at once.

    Attributes:
        slot: number of the worker among those that run at the same time.
        claim: the claim that the worker tries now; ``None`` while it tries none.
        deadline: when the claim is overdue, by the monotonic clock; ``None`` for never.
        is_open: whether the worker was opened.
    """

    slot = 0
    claim: Claim | None = None
    deadline: float | None = None
    is_open = False

    @abstractmethod
    def submit(self, claim: Claim) -> None:
        """Send a claim to a worker that is :class:`Ready`."""

    @abstractmethod
    def stop(self) -> None:
        """Close a worker that is :class:`Ready`, and end its process."""

    @abstractmethod
    def kill(self) -> None:
        """End the process at once."""


class WorkerPool:
    """Tries claims on up to ``num_workers`` workers at the same time.

    Args:
        report: is called with each event.
        start: starts the process of the worker in a slot.
        receive: waits up to a number of seconds for messages of these workers, and returns them.
    """

    def __init__(
        self,
        job: Job,
        report: Callable[[Event], None],
        num_workers: int,
        start: Callable[[int], WorkerHandle],
        receive: Callable[[Sequence[WorkerHandle], float], Sequence[tuple[WorkerHandle, Message]]],
    ) -> None:
        self._job = job
        self._report = report
        self._num_workers = num_workers
        self._start = start
        self._receive = receive
        self._ledger = Ledger(job.directory)
        self._queue: deque[Claim] = deque()
        self._workers: dict[int, WorkerHandle] = {}
        self._retired_slots: set[int] = set()
        self._num_deaths_unopened = 0
        self._last_error = ""

    def run(self, claims: Sequence[Claim]) -> None:
        """Try every claim once; see :meth:`Executor.run`."""
        self._queue.extend(claims)
        try:
            while self._queue or any(worker.claim for worker in self._workers.values()):
                self._fill_slots()
                for worker, message in self._receive(
                    list(self._workers.values()), self._seconds_to_wait()
                ):
                    self._handle_message(worker, message)
                self._kill_overdue()
            for worker in self._workers.values():
                if worker.is_open:
                    worker.stop()
        finally:
            for worker in self._workers.values():
                if not worker.is_open or worker.claim:
                    worker.kill()
                if worker.claim:
                    self._record_stop(worker.claim)

    def _fill_slots(self) -> None:
        """Start workers in free slots, no more than there are claims to try."""
        num_useful = min(self._num_workers, len(self._queue) + len(self._workers))
        for slot in range(num_useful):
            if self._queue and slot not in self._workers and slot not in self._retired_slots:
                worker = self._start(slot)
                worker.slot = slot
                self._workers[slot] = worker
        if not self._workers:
            raise FatalError(f"no worker is left; the last one: {self._last_error}")

    def _seconds_to_wait(self) -> float:
        """Return the seconds until the next claim is overdue, at most one second."""
        now = time.monotonic()
        deadlines = [worker.deadline for worker in self._workers.values() if worker.deadline]
        next_deadline = min(deadlines, default=now + _MAX_WAIT_SECONDS)
        return min(max(next_deadline - now, 0.0), _MAX_WAIT_SECONDS)

    def _handle_message(self, worker: WorkerHandle, message: Message) -> None:
        if isinstance(message, Event):
            self._report_event(message)
        elif isinstance(message, Ready):
            self._submit_next(worker)
        elif isinstance(message, Broken):
            self._retire(worker, message.error)
        else:
            self._replace_dead(worker, message.why)

    def _submit_next(self, worker: WorkerHandle) -> None:
        """Give a worker that is ready the next claim, if one is left."""
        worker.is_open, worker.claim, worker.deadline = True, None, None
        if self._queue:
            worker.claim = self._queue.popleft()
            if self._job.shard_timeout:
                worker.deadline = time.monotonic() + self._job.shard_timeout
            worker.submit(worker.claim)

    def _retire(self, worker: WorkerHandle, error: SekdError) -> None:
        """Give up the slot of a worker that cannot be opened or used."""
        del self._workers[worker.slot]
        if isinstance(error, ConfigError):
            raise error
        self._retired_slots.add(worker.slot)
        self._last_error = str(error)
        logger.warning("a worker stopped: %s", error)

    def _replace_dead(self, worker: WorkerHandle, why: str) -> None:
        """Free the slot of a worker that died, or give it up after too many early deaths."""
        del self._workers[worker.slot]
        self._last_error = why
        self._record_death(worker, "lost", why)
        if not worker.is_open:
            self._num_deaths_unopened += 1
        if self._num_deaths_unopened >= _MAX_DEATHS_UNOPENED:
            self._retired_slots.add(worker.slot)

    def _kill_overdue(self) -> None:
        """Kill workers whose claim took longer than the job's timeout."""
        for worker in list(self._workers.values()):
            if worker.deadline and time.monotonic() > worker.deadline:
                worker.kill()
                del self._workers[worker.slot]
                why = f"no end after {self._job.shard_timeout:g} s (runtime.shard_timeout)"
                self._record_death(worker, "failed", why)

    def _record_death(
        self, worker: WorkerHandle, status: Literal["lost", "failed"], why: str
    ) -> None:
        """End the attempt that a dead worker leaves, unless it has ended already."""
        if worker.claim is None:
            logger.warning("a worker died: %s", why)
            return
        shard = worker.claim.shard.index
        if self._ledger.give_up(shard, worker.claim.number, status, why):
            self._report_event(Event("failed", shard, error=why))

    def _record_stop(self, claim: Claim) -> None:
        """End the attempt of a worker that was killed because the run stops: it does not count."""
        with optional(f"the end of shard {claim.shard.index}"):
            why = "the run was stopped"
            self._ledger.give_up(claim.shard.index, claim.number, "interrupted", why)

    def _report_event(self, event: Event) -> None:
        """Log an event, because workers log to files of their own, and report it."""
        if event.kind == "failed":
            logger.warning("shard %d failed: %s", event.shard, event.error)
        elif event.num_quarantined:
            logger.warning("shard %d: %d samples quarantined", event.shard, event.num_quarantined)
        self._report(event)


def as_sendable(error: Exception) -> SekdError:
    """Turn any error into one that can be unpickled in a process without its class."""
    kind = ConfigError if isinstance(error, ConfigError) else FatalError
    return kind(in_one_line(error))
