"""Progress for people: a bar with rate and ETA in a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from sekd.io.terminal_log import is_quiet

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s")


class Progress:
    """Counts samples, or other units, as they finish, on a bar or, without one, in log lines."""

    def __init__(self, title: str, total: int, bar: RichProgress | None, unit: str) -> None:
        self._title, self._total, self._bar, self._unit = title, total, bar, unit
        self._task = bar.add_task(title, total=total, notes="") if bar else None
        self._count, self._notes = 0, ""
        self._started = self._last_line = time.monotonic()

    def advance(self, num_samples: int) -> None:
        """Count more samples that went through."""
        self._count += num_samples
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, num_samples)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._log_line()

    def note(self, text: str) -> None:
        """Show what went wrong so far beside the count, e.g. "2 quarantined"."""
        self._notes = text
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, notes=text)

    def _log_line(self) -> None:
        self._last_line = time.monotonic()
        rate = self._count / max(self._last_line - self._started, 1e-9)
        seconds_left = (self._total - self._count) / rate if rate else float("inf")
        notes = f", {self._notes}" if self._notes else ""
        logger.info(
            "%s: %d/%d %s, %.1f/s, %.0f s left%s",
            self._title,
            self._count,
            self._total,
            self._unit,
            rate,
            seconds_left,
            notes,
        )


@contextmanager
def show_progress(title: str, total: int, unit: str = "samples") -> Iterator[Progress]:
    """Show a bar on standard error if that is a terminal, else a log line every ten seconds.

    With ``-q`` nothing is shown.
    """
    console = Console(stderr=True)
    if is_quiet() or not console.is_terminal:
        yield Progress(title, total, None, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[notes]}"),
    )
    with RichProgress(*columns, console=console) as bar:
        yield Progress(title, total, bar, unit)


@contextmanager
def show_activity(title: str) -> Iterator[Callable[[str], None]]:
    """Show the last message of work that counts by itself, beside a spinner or as log lines.

    Yields a function that takes the next message.
    """
    console = Console(stderr=True)
    if is_quiet() or not console.is_terminal:
        last_line = time.monotonic()

        def log(text: str) -> None:
            nonlocal last_line
            if time.monotonic() - last_line > _SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                logger.info("%s: %s", title, text)

        yield log
        return
    with console.status(Text(title)) as status:
        yield lambda text: status.update(Text(f"{title}: {text}"[: max(20, console.width - 4)]))
