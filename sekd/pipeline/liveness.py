"""Whether the process behind an unfinished attempt still lives.

On one machine the system is asked. Of another machine's process only its heartbeat is seen: it is
believed dead when that has not moved for :data:`LOST_AFTER_SECONDS` of the *observer's* monotonic
clock. Clocks of two machines are never compared, and one that is set back changes nothing.
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
    """What a start record says about the process that wrote it."""
    return {"host": _host(), "pid": os.getpid(), "born": _born(os.getpid())}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process of a start record lives; ``None`` for one of another machine."""
    if process.get("host") != _host():
        return None
    return _born(int(process["pid"])) == str(process["born"])


def _host() -> str:
    """This machine since it was started, and the space in which its process ids count."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _born(pid: int) -> str | None:
    """When a process started, so that a number given out again is told apart; ``None`` if dead."""
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
    return None if state in "ZX" else ticks


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
            except Exception:  # a beat that is missed is not worth the attempt
                logger.debug("no heartbeat", exc_info=True)

    def stop(self) -> None:
        """No beat comes after this returns."""
        self._stopped.set()
        self._thread.join()


class Observer:
    """Remembers since when a heartbeat has not moved."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes | None, float]] = {}

    def is_still(self, name: str, beat: bytes | None) -> bool:
        """Whether this attempt's heartbeat was the same for too long."""
        now = time.monotonic()
        last, since = self._seen.get(name, (None, now))
        if name not in self._seen or beat != last:
            self._seen[name] = (beat, now)
            return False
        return now - since > LOST_AFTER_SECONDS
