"""The log on the terminal: one line per event on standard error, as much of it as is asked for."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

_PACKAGE = logging.getLogger("sekd")


class TerminalHandler(logging.Handler):
    """Writes events to standard error, above a progress bar if there is one.

    An event is its message alone. With the level ``DEBUG`` it also has its level, its module and
    its traceback.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event; a terminal that is gone ends no work."""
        text = self.format(record) if self.level <= logging.DEBUG else record.getMessage()
        with contextlib.suppress(OSError):
            # A live progress bar replaces sys.stderr, so the stream is looked up for each event.
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


@contextlib.contextmanager
def log_to_terminal() -> Iterator[None]:
    """Show events of sekd from ``INFO`` on; afterwards the log is as it was before.

    Handlers that were added in the meantime, such as a log file, are closed.
    """
    handlers, level, propagate = _PACKAGE.handlers, _PACKAGE.level, _PACKAGE.propagate
    terminal = TerminalHandler(logging.INFO)
    terminal.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    _PACKAGE.handlers, _PACKAGE.propagate = [terminal], False
    _PACKAGE.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for handler in _PACKAGE.handlers:
            handler.close()
        _PACKAGE.handlers, _PACKAGE.propagate = handlers, propagate
        _PACKAGE.setLevel(level)


def show_from(level: int) -> None:
    """Show events from this level of :mod:`logging` on."""
    for handler in _terminal_handlers():
        handler.setLevel(level)


def is_quiet() -> bool:
    """Tell whether the terminal is to show errors only, and therefore no progress."""
    return any(handler.level > logging.WARNING for handler in _terminal_handlers())


def _terminal_handlers() -> Iterator[TerminalHandler]:
    return (each for each in _PACKAGE.handlers if isinstance(each, TerminalHandler))
