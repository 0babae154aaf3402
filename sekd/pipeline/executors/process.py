"""Several workers on this machine, a process and an engine each."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from sekd.errors import ConfigError, FatalError, SekdError
from sekd.pipeline.executors.pool import Broken, Died, Message, Ready, WorkerHandle, WorkerPool
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.work import Claim, Event, Job, run_claim

_SPAWN = multiprocessing.get_context("spawn")  # a forked CUDA context does not work


class ProcessExecutor:
    """A pool of processes.

    Args:
        gpus_per_worker: each worker sees so many devices of its own; 0 lets all see all.
    """

    def __init__(self, num_workers: int, gpus_per_worker: int = 0) -> None:
        self._num_workers = num_workers
        self._devices = _share_devices(num_workers, gpus_per_worker)

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """See :class:`~sekd.pipeline.executors.protocol.Executor`."""

        def start(slot: int) -> WorkerHandle:
            return _Process(job, self._devices[slot])

        WorkerPool(self._num_workers, start, _wait).run(job, claims, report)


def _share_devices(num_workers: int, gpus_per_worker: int) -> list[str | None]:
    """``CUDA_VISIBLE_DEVICES`` of each worker; ``None`` leaves it alone.

    Raises:
        ConfigError: if this process sees fewer devices.
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
        ",".join(devices[slot * gpus_per_worker : (slot + 1) * gpus_per_worker])
        for slot in range(num_workers)
    ]


class _Process(WorkerHandle):
    def __init__(self, job: Job, devices: str | None) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_main, args=(theirs, devices), daemon=True)
        self.process.start()
        theirs.close()
        # Not an argument: unpickling it imports torch, and that must see its devices.
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
        except OSError:  # it has just died; waiting for it will tell
            return


def _wait(hosts: Sequence[WorkerHandle], seconds: float) -> list[tuple[WorkerHandle, Message]]:
    by_connection: dict[Any, _Process] = {}
    for host in hosts:
        assert isinstance(host, _Process)
        by_connection[host.connection] = host
    messages: list[tuple[WorkerHandle, Message]] = []
    for connection in wait(list(by_connection), seconds):
        host = by_connection[connection]
        try:
            messages.append((host, host.connection.recv()))
        except (EOFError, OSError):  # what it had sent before it died was read first
            host.process.join()
            code = host.process.exitcode or 0
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            messages.append((host, Died(f"the worker process ended {how}")))
    return messages


def _main(connection: Connection, devices: str | None) -> None:
    """The worker's process: open, then claim after claim until it hears ``None``."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    logging.getLogger("sekd").setLevel(logging.DEBUG)
    logging.getLogger("sekd").addHandler(logging.NullHandler())
    logging.getLogger("sekd").propagate = False
    try:
        job: Job = pickle.loads(connection.recv_bytes())  # noqa: S301  from our own parent
        worker = job.open_worker()
    except Exception as error:  # noqa: BLE001  it goes to the parent
        connection.send(Broken(as_sendable(error)))
        return
    ledger = Ledger(job.directory)
    try:
        connection.send(Ready())
        while (claim := connection.recv()) is not None:
            run_claim(ledger, claim, worker, connection.send)
            connection.send(Ready())
    except FatalError as error:
        connection.send(Broken(as_sendable(error)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    finally:
        worker.close()


def _die_with_parent() -> None:
    """Nobody would hear of what is done after the parent's death, and the devices are needed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def as_sendable(error: Exception) -> SekdError:
    """An error that unpickles where its class is not known."""
    kind = ConfigError if isinstance(error, ConfigError) else FatalError
    name = "" if isinstance(error, SekdError) else f"{type(error).__name__}: "
    return kind(f"{name}{error}")
