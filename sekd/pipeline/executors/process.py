"""Several workers on this machine; each has its own process and engine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from sekd.config import ShardRuntime
from sekd.errors import ConfigError, FatalError
from sekd.io.stop_signals import stop_signals_raise
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
from sekd.pipeline.work import Claim, Event, Job, run_claim

_SPAWN = multiprocessing.get_context("spawn")  # a forked CUDA context does not work


class ProcessExecutor(Executor):
    """A pool of processes on this machine.

    Args:
        gpus_per_worker: number of devices that each worker sees for itself; 0 lets all see all.
    """

    def __init__(self, num_workers: int, gpus_per_worker: int = 0) -> None:
        self._num_workers = num_workers
        self._devices = _share_devices(num_workers, gpus_per_worker)

    @classmethod
    def from_runtime(cls, runtime: ShardRuntime) -> Self:
        """Make the executor; it uses ``workers`` and ``gpus_per_worker``."""
        return cls(runtime.workers, runtime.gpus_per_worker)

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """Try every claim once; see :meth:`Executor.run`."""

        def start(slot: int) -> WorkerHandle:
            return _ProcessHandle(job, self._devices[slot])

        WorkerPool(job, report, self._num_workers, start, _receive).run(claims)


def _share_devices(num_workers: int, gpus_per_worker: int) -> list[str | None]:
    """Return ``CUDA_VISIBLE_DEVICES`` of each worker; ``None`` leaves it as it is.

    Raises:
        ConfigError: if this process sees fewer devices than the workers need.
    """
    if not gpus_per_worker:
        return [None] * num_workers
    needed = num_workers * gpus_per_worker
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(index) for index in range(needed)]
    if len(devices) < needed:
        raise ConfigError(
            f"runtime.workers {num_workers} with {gpus_per_worker} GPUs each need {needed} "
            f"devices, CUDA_VISIBLE_DEVICES={visible} has {len(devices)}; lower one of them"
        )
    return [
        ",".join(devices[start : start + gpus_per_worker])
        for start in range(0, needed, gpus_per_worker)
    ]


class _ProcessHandle(WorkerHandle):
    def __init__(self, job: Job, devices: str | None) -> None:
        self.connection, child_connection = _SPAWN.Pipe()
        self.process = _SPAWN.Process(
            target=_run_worker, args=(child_connection, devices), daemon=True
        )
        self.process.start()
        child_connection.close()
        # The job is no argument, because unpickling it imports torch, which must see its devices.
        self.connection.send_bytes(pickle.dumps(job))

    def submit(self, claim: Claim) -> None:
        self._send(claim)

    def stop(self) -> None:
        self._send(None)
        self.process.join()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def _send(self, message: Claim | None) -> None:
        try:
            self.connection.send(message)
        except OSError:  # it has just died; the next wait finds that out
            return


def _receive(workers: Sequence[WorkerHandle], seconds: float) -> list[tuple[WorkerHandle, Message]]:
    """Wait for messages of these processes, and read one message of each that sent any."""
    by_connection: dict[Any, _ProcessHandle] = {}
    for worker in workers:
        assert isinstance(worker, _ProcessHandle)
        by_connection[worker.connection] = worker
    messages: list[tuple[WorkerHandle, Message]] = []
    for connection in wait(list(by_connection), seconds):
        worker = by_connection[connection]
        try:
            messages.append((worker, worker.connection.recv()))
        except (EOFError, OSError):  # what it had sent before it died was read first
            worker.process.join()
            code = worker.process.exitcode or 0
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            messages.append((worker, Died(f"the worker process ended {how}")))
    return messages


def _run_worker(connection: Connection, devices: str | None) -> None:
    """Run in the worker's process, until the parent or a signal ends it."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    logging.getLogger("sekd").setLevel(logging.DEBUG)
    logging.getLogger("sekd").addHandler(logging.NullHandler())
    logging.getLogger("sekd").propagate = False
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt), stop_signals_raise():
        _serve(connection)


def _serve(connection: Connection) -> None:
    """Open the worker that the parent sends, then try its claims until it sends ``None``."""
    try:
        job: Job = pickle.loads(connection.recv_bytes())  # noqa: S301  from our own parent
        worker = job.open_worker()
    except Exception as error:  # noqa: BLE001  the parent gets it
        connection.send(Broken(as_sendable(error)))
        return

    def report(event: Event) -> None:
        try:
            connection.send(event)
        except OSError:  # the parent is dead, which is no fault of the shard
            sys.exit(1)

    ledger = Ledger(job.directory)
    try:
        connection.send(Ready())
        while (claim := connection.recv()) is not None:
            limit = job.max_quarantined_in_row
            run_claim(ledger, claim, worker, report, max_quarantined_in_row=limit)
            connection.send(Ready())
    except FatalError as error:
        connection.send(Broken(as_sendable(error)))
    finally:
        worker.close()


def _die_with_parent() -> None:
    """End this process when its parent is dead.

    Nobody would receive the results, and another run needs the devices.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
