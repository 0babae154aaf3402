"""Hands claims to several hosts, and outlives every one of them but the last."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sekd.errors import ConfigError, FatalError, SekdError
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.work import Claim, Event, Job

logger = logging.getLogger(__name__)

_MAX_DEATHS_UNOPENED = 3


@dataclass(frozen=True)
class Ready:
    """The host has opened its worker, or has ended its claim, and wants another one."""


@dataclass(frozen=True)
class Broken:
    """The host's worker cannot be opened or used; the host ends itself."""

    error: SekdError


@dataclass(frozen=True)
class Died:
    """The host is gone without a word."""

    why: str


Message = Event | Ready | Broken | Died


class WorkerHandle(ABC):
    """A process somewhere that holds one worker; it starts opening it at once."""

    claim: Claim | None = None
    deadline: float | None = None
    is_open = False

    @abstractmethod
    def submit(self, claim: Claim) -> None:
        """Have it try a claim; it was :class:`Ready`."""

    @abstractmethod
    def stop(self) -> None:
        """Have it close its worker and end; it was :class:`Ready`."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""


class WorkerPool:
    """Tries every claim once on up to ``num_hosts`` hosts.

    Args:
        start: starts a host in the slot of that number.
        wait: messages that came within so many seconds.
    """

    def __init__(
        self,
        num_hosts: int,
        start: Callable[[int], WorkerHandle],
        wait: Callable[[Sequence[WorkerHandle], float], Sequence[tuple[WorkerHandle, Message]]],
    ) -> None:
        self._num_hosts, self._start, self._wait = num_hosts, start, wait

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """See :class:`~sekd.pipeline.executors.protocol.Executor`."""
        ledger, queue = Ledger(job.directory), deque(claims)
        hosts: dict[int, WorkerHandle] = {}
        retired: set[int] = set()
        num_deaths_unopened, last_error = 0, ""
        try:
            while queue or any(host.claim for host in hosts.values()):
                for slot in range(min(self._num_hosts, len(queue) + len(hosts))):
                    if queue and slot not in hosts and slot not in retired:
                        hosts[slot] = self._start(slot)
                if not hosts:
                    raise FatalError(f"no worker is left; the last one: {last_error}")
                for slot, message in self._messages(hosts):
                    host = hosts[slot]
                    if isinstance(message, Event):
                        _log(message)
                        report(message)
                    elif isinstance(message, Ready):
                        host.is_open, host.claim, host.deadline = True, None, None
                        if queue:
                            _submit(host, queue.popleft(), job.shard_timeout)
                    else:
                        del hosts[slot]
                        if isinstance(message, Broken):
                            if isinstance(message.error, ConfigError):
                                raise message.error
                            retired.add(slot)
                            last_error = str(message.error)
                            logger.warning("a worker stopped: %s", last_error)
                            continue
                        last_error = message.why
                        _record_death(ledger, host, message.why, report)
                        num_deaths_unopened += not host.is_open
                        if num_deaths_unopened >= _MAX_DEATHS_UNOPENED:
                            retired.add(slot)
                self._kill_overdue(ledger, hosts, job.shard_timeout, report)
            for host in hosts.values():
                if host.is_open:
                    host.stop()
        finally:
            for host in hosts.values():
                if not host.is_open or host.claim:
                    host.kill()

    def _messages(self, hosts: dict[int, WorkerHandle]) -> list[tuple[int, Message]]:
        slots = {id(host): slot for slot, host in hosts.items()}
        deadlines = [host.deadline for host in hosts.values() if host.deadline]
        seconds = min(max(min(deadlines, default=1e9) - time.monotonic(), 0), 1.0)
        messages = self._wait(list(hosts.values()), seconds)
        return [(slots[id(host)], message) for host, message in messages]

    def _kill_overdue(
        self,
        ledger: Ledger,
        hosts: dict[int, WorkerHandle],
        timeout: float | None,
        report: Callable[[Event], None],
    ) -> None:
        for slot, host in list(hosts.items()):
            if host.deadline and time.monotonic() > host.deadline:
                host.kill()
                del hosts[slot]
                why = f"no end after {timeout:g} s (runtime.shard_timeout)"
                _record_death(ledger, host, why, report, failed=True)


def _submit(host: WorkerHandle, claim: Claim, timeout: float | None) -> None:
    host.claim = claim
    host.deadline = time.monotonic() + timeout if timeout else None
    host.submit(claim)


def _record_death(
    ledger: Ledger,
    host: WorkerHandle,
    why: str,
    report: Callable[[Event], None],
    *,
    failed: bool = False,
) -> None:
    """Record what a dead host leaves undone."""
    if host.claim is None:
        logger.warning("a worker died: %s", why)
        return
    shard = host.claim.shard.index
    if ledger.give_up(shard, host.claim.number, "failed" if failed else "lost", why):
        event = Event("failed", shard, error=why)
        _log(event)
        report(event)


def _log(event: Event) -> None:
    if event.kind == "failed":
        logger.warning("shard %d failed: %s", event.shard, event.error)
    elif event.num_quarantined:
        logger.warning("shard %d: %d samples quarantined", event.shard, event.num_quarantined)
