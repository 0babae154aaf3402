"""Find out whether the process behind an unfinished attempt is still alive.

On one machine the operating system is asked. Of another machine's process only its heartbeat is
seen: it is believed dead when the heartbeat has not changed for :data:`LOST_AFTER_SECONDS` of the
*observer's* monotonic clock. Clocks of two machines are never compared, and a clock that is set
back changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
LOST_AFTER_SECONDS = 60.0


def this_process() -> dict[str, Any]:
    """Identify this process, for the start record that it writes."""
    return {"host": _host(), "pid": os.getpid(), "born": _start_time(os.getpid())}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Tell whether the process of a start record lives; ``None`` for one of another machine."""
    if process.get("host") != _host():
        return None
    return _start_time(int(process["pid"])) == str(process["born"])


def _host() -> str:
    """Identify this machine since its last boot, and the namespace of its process ids."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """Return when a process started; ``None`` if it is dead.

    A process id that was given out again belongs to a process with another start time.
    """
    if not Path("/proc/self/stat").exists():
        import psutil

        try:
            return str(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    try:
        # The second field, a name in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    state, ticks = fields[0], fields[19]
    is_dead = state in ("Z", "X")
    return None if is_dead else ticks


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
