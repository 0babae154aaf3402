"""A log file that never ends the work that it tells about."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path


class LogFile(logging.FileHandler):
    """Appends to a file, which is opened at the first line.

    Lines that a full or broken disk does not take are lost: the disk's fault is reported where it
    matters, by the work itself.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name of logging
        """Say nothing; ``logging`` would print a traceback for each line."""

    def close(self) -> None:
        """Flush and close the file."""
        with contextlib.suppress(OSError):
            super().close()
