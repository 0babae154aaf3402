"""The heartbeat of an attempt, for processes of other machines.

On one machine the operating system is asked (:mod:`sekd.io.processes`). Of another machine's
process only its heartbeat is seen: it is believed dead when the heartbeat has not changed for
:data:`LOST_AFTER_SECONDS` of the *observer's* monotonic clock. Clocks of two machines are never
compared, and a clock that is set back changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
LOST_AFTER_SECONDS = 60.0


class Heartbeat:
    """A thread that calls ``beat(count)`` every few seconds until it is stopped."""

    def __init__(self, beat: Callable[[int], None]) -> None:
        self._beat = beat
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")
        self._thread.start()

    def _run(self) -> None:
        count = 0
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            count += 1
            try:
                self._beat(count)
            except Exception:  # one missed heartbeat must not end the attempt
                logger.debug("no heartbeat", exc_info=True)

    def stop(self) -> None:
        """Stop the thread; ``beat`` is not called after this returns."""
        self._stopped.set()
        self._thread.join()


class Observer:
    """Remembers since when each heartbeat has not changed."""

    def __init__(self) -> None:
        self._last_changes: dict[str, tuple[bytes | None, float]] = {}

    def has_stopped(self, name: str, beat: bytes | None) -> bool:
        """Tell whether an attempt's heartbeat has been the same for too long.

        Args:
            name: the attempt.
            beat: content of its heartbeat file now, ``None`` if there is none.
        """
        now = time.monotonic()
        last_beat, since = self._last_changes.get(name, (None, now))
        if name not in self._last_changes or beat != last_beat:
            self._last_changes[name] = (beat, now)
            return False
        return now - since > LOST_AFTER_SECONDS
