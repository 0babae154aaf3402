"""Workers on the machines of a Ray cluster. This is the only file that imports ray.

Ray's own retries are off: the ledger alone decides what is tried again. A machine that is lost
costs the shards that its workers had in hand; new workers start wherever the cluster has room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayTaskError

from sekd.config import ShardRuntime
from sekd.errors import FatalError, in_one_line
from sekd.io.stop_signals import stop_signals_kept
from sekd.pipeline.executors.base import Executor
from sekd.pipeline.executors.pool import (
    Broken,
    Died,
    Message,
    Ready,
    WorkerHandle,
    WorkerPool,
    as_sendable,
)
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.work import Claim, Event, Job, Worker, run_claim


class RayExecutor(Executor):
    """A pool of Ray actors; each has its own engine.

    Args:
        gpus_per_worker: number of devices that Ray gives each worker for itself.
        address: the cluster, as ``ray.init`` takes it; ``None`` starts one on this machine.
    """

    def __init__(self, num_workers: int, gpus_per_worker: int = 0, address: str | None = None):
        self._num_workers = num_workers
        self._gpus_per_worker = gpus_per_worker
        self._address = address

    @classmethod
    def from_runtime(cls, runtime: ShardRuntime) -> Self:
        """Make the executor; it uses ``workers``, ``gpus_per_worker`` and ``address``."""
        return cls(runtime.workers, runtime.gpus_per_worker, runtime.address)

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """Try every claim once; see :meth:`Executor.run`."""
        if not ray.is_initialized():
            with stop_signals_kept():  # Ray's handler of SIGTERM ends the process with exit code 15
                ray.init(address=self._address, logging_level=logging.WARNING)
        shared_job = ray.put(job)  # once for all workers, because a dataset may be large

        def start(_slot: int) -> WorkerHandle:
            return _ActorHandle(shared_job, self._gpus_per_worker)

        WorkerPool(job, report, self._num_workers, start, _receive_replies).run(claims)


class _WorkerActor:
    """Holds a worker in a process on some machine of the cluster."""

    def open(self, job: Job) -> list[Message]:
        logging.getLogger("sekd").setLevel(logging.DEBUG)
        logging.getLogger("sekd").propagate = False
        logging.getLogger("sekd").addHandler(logging.NullHandler())
        try:
            self._worker: Worker = job.open_worker()
        except Exception as error:  # noqa: BLE001  the driver gets it
            return [Broken(as_sendable(error))]
        self._ledger = Ledger(job.directory)
        self._max_quarantined_in_row = job.max_quarantined_in_row
        return [Ready()]

    def work(self, claim: Claim) -> list[Message]:
        """Try one claim and return its events; progress is reported shard by shard."""
        messages: list[Message] = []
        try:
            run_claim(
                self._ledger,
                claim,
                self._worker,
                messages.append,
                max_quarantined_in_row=self._max_quarantined_in_row,
            )
        except FatalError as error:
            return [*messages, Broken(as_sendable(error))]
        return [*messages, Ready()]

    def close(self) -> None:
        self._worker.close()


class _ActorHandle(WorkerHandle):
    def __init__(self, job: Any, num_gpus: int) -> None:
        # Ray's type hints lack the options of an actor's class.
        actor_class: Any = ray.remote(_WorkerActor)
        self._actor = actor_class.options(
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


def _receive_replies(
    workers: Sequence[WorkerHandle], seconds: float
) -> list[tuple[WorkerHandle, Message]]:
    """Wait for replies of these actors, and read the messages of each that replied."""
    by_reply: dict[Any, _ActorHandle] = {}
    for worker in workers:
        assert isinstance(worker, _ActorHandle)
        by_reply[worker.reply] = worker
    ready, _ = ray.wait(list(by_reply), num_returns=len(by_reply), timeout=seconds or 0.01)
    messages: list[tuple[WorkerHandle, Message]] = []
    for reply in ready:
        try:
            sent: Sequence[Message] = ray.get(reply)
        except RayActorError as error:
            sent = [Died(in_one_line(error, 300))]
        except RayTaskError as error:
            sent = [Broken(FatalError(in_one_line(error.cause)))]
        messages += [(by_reply[reply], message) for message in sent]
    return messages
