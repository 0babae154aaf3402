"""Let the signals that ask a program to end raise, so that what it does is recorded and undone.

By default SIGTERM (of a cluster's scheduler, before it kills) and SIGHUP (of a terminal that
closes) end a process at once. As exceptions they end it as Ctrl-C does.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_received: list[int] = []
"""The stop signals of the block that runs now. A library may raise a plain ``KeyboardInterrupt`` in
place of our error, as Ray does where it waits."""


class StoppedBySignalError(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Raise a ``StoppedBySignalError`` in this block at SIGTERM and SIGHUP.

    A signal that is ignored (nohup) or handled already stays so. Nothing is changed in a process of
    torchrun, which may wait for others in a library, where no exception can be raised, nor in
    another thread than the main one.
    """
    previous = {}
    _received.clear()
    if threading.current_thread() is threading.main_thread() and "RANK" not in os.environ:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                previous[number] = signal.signal(number, _raise_stopped)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals_kept() -> Iterator[None]:
    """Put back the handlers of SIGTERM and SIGHUP that a library replaces in this block."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def stopped_by(error: KeyboardInterrupt) -> signal.Signals:
    """Return the signal that stopped this process; SIGINT for Ctrl-C."""
    if isinstance(error, StoppedBySignalError):
        return signal.Signals(error.number)
    return signal.Signals(_received[-1]) if _received else signal.SIGINT


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise StoppedBySignalError(number)
