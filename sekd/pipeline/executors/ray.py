"""Workers on the machines of a Ray cluster. The only file that imports ray.

Ray's own retries are off: the ledger alone decides what is tried again. A machine that is lost
costs the shards its workers were at; new workers are started where the cluster has room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from sekd.errors import FatalError
from sekd.pipeline.executors.pool import Broken, Died, Message, Ready, WorkerHandle, WorkerPool
from sekd.pipeline.executors.process import as_sendable
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.work import Claim, Event, Job, Worker, run_claim


class RayExecutor:
    """A pool of Ray actors, an engine each.

    Args:
        address: of the cluster, as ``ray.init`` takes it; ``None`` starts one on this machine.
        gpus_per_worker: Ray gives each worker so many devices of its own.
    """

    def __init__(self, num_workers: int, gpus_per_worker: int = 0, address: str | None = None):
        self._num_workers, self._gpus, self._address = num_workers, gpus_per_worker, address

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """See :class:`~sekd.pipeline.executors.protocol.Executor`."""
        if not ray.is_initialized():
            ray.init(address=self._address, logging_level=logging.WARNING)
        shared = ray.put(job)  # once, not once per worker: a data set may be large

        def start(_slot: int) -> WorkerHandle:
            return _Actor(shared, self._gpus)

        WorkerPool(self._num_workers, start, _wait).run(job, claims, report)


class _WorkerActor:
    """Where a worker sits, on some machine of the cluster."""

    def open(self, job: Job) -> list[Message]:
        logging.getLogger("sekd").setLevel(logging.DEBUG)
        logging.getLogger("sekd").propagate = False
        logging.getLogger("sekd").addHandler(logging.NullHandler())
        try:
            self._worker: Worker = job.open_worker()
        except Exception as error:  # noqa: BLE001  it goes to the driver
            return [Broken(as_sendable(error))]
        self._ledger = Ledger(job.directory)
        return [Ready()]

    def work(self, claim: Claim) -> list[Message]:
        """Events of one claim; progress is told shard by shard."""
        messages: list[Message] = []
        try:
            run_claim(self._ledger, claim, self._worker, messages.append)
        except FatalError as error:
            return [*messages, Broken(as_sendable(error))]
        return [*messages, Ready()]

    def close(self) -> None:
        self._worker.close()


class _Actor(WorkerHandle):
    def __init__(self, job: Any, num_gpus: int) -> None:
        # Ray's types know no options of an actor's class.
        seat: Any = ray.remote(_WorkerActor)
        self._actor = seat.options(
            max_restarts=0, max_task_retries=0, num_cpus=1, num_gpus=num_gpus
        ).remote()
        self.reply = self._actor.open.remote(job)

    def submit(self, claim: Claim) -> None:
        self.reply = self._actor.work.remote(claim)

    def stop(self) -> None:
        closed = self._actor.close.remote()
        ray.wait([closed], timeout=30)
        self.kill()

    def kill(self) -> None:
        ray.kill(self._actor, no_restart=True)


def _wait(hosts: Sequence[WorkerHandle], seconds: float) -> list[tuple[WorkerHandle, Message]]:
    by_reply: dict[Any, _Actor] = {}
    for host in hosts:
        assert isinstance(host, _Actor)
        by_reply[host.reply] = host
    ready, _ = ray.wait(list(by_reply), num_returns=len(by_reply), timeout=seconds or 0.01)
    messages: list[tuple[WorkerHandle, Message]] = []
    for reply in ready:
        try:
            told: Sequence[Message] = ray.get(reply)
        except RayActorError as error:
            told = [Died(" ".join(str(error).split())[:300])]
        except RayTaskError as error:
            told = [Broken(FatalError(str(error.cause)))]
        messages += [(by_reply[reply], message) for message in told]
    return messages
