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
    if threading.current_thread() is threading.main_thread() and "RANK" not in os.environ:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                previous[number] = signal.signal(number, _raise_stopped)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stopped_by(error: KeyboardInterrupt) -> signal.Signals:
    """Return the signal that stopped this process; SIGINT for Ctrl-C."""
    number = error.number if isinstance(error, StoppedBySignalError) else signal.SIGINT
    return signal.Signals(number)


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    raise StoppedBySignalError(number)
