"""Identify processes, and find out whether one of this machine still lives."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sekd.io.faults import StorageError, retry

_TAG = re.compile(r"([0-9a-f]{8})-(\d+)-(\d+)")


def this_process() -> dict[str, Any]:
    """Identify this process, for the records and files that it writes."""
    return dict(_identify(os.getpid()))


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Tell whether a process that :func:`this_process` identified lives.

    Returns:
        ``None`` for a process of another machine, or one that cannot be looked at.
    """
    if process.get("host") != this_process()["host"]:
        return None
    try:
        return _start_time(int(process["pid"])) == str(process["born"])
    except StorageError:  # too many open files, or a process that this user may not see
        return None


def process_tag() -> str:
    """Identify this process in the name of a file."""
    process = this_process()
    born = str(process["born"]).replace(".", "")
    return f"{_short_host(process['host'])}-{process['pid']}-{born}"


def is_tag_alive(tag: str) -> bool | None:
    """Tell whether the process that :func:`process_tag` identified lives; see :func:`is_alive`."""
    found = _TAG.fullmatch(tag)
    if found is None or found[1] != _short_host(this_process()["host"]):
        return None
    try:
        start_time = _start_time(int(found[2]))
    except StorageError:
        return None
    return start_time is not None and start_time.replace(".", "") == found[3]


def _short_host(host: str) -> str:
    return hashlib.sha256(host.encode()).hexdigest()[:8]


@cache
def _identify(pid: int) -> Mapping[str, Any]:
    return {"host": _host(), "pid": pid, "born": _start_time(pid)}


def _host() -> str:
    """Identify this machine since its last boot, and the namespace of its process ids."""
    boot_id, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [socket.gethostname()]
    with contextlib.suppress(FileNotFoundError):  # no Linux
        parts.append(retry(lambda: boot_id.read_text("utf-8"), boot_id).strip())
        parts.append(str(retry(namespace.readlink, namespace)))
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """Return when a process started; ``None`` if it is dead.

    A process id that was given out again belongs to a process with another start time.

    Raises:
        StorageError: if it cannot be found out.
    """
    if not Path("/proc/self/stat").exists():
        import psutil

        try:
            return str(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None
        except psutil.AccessDenied as error:
            raise StorageError.of(f"process {pid}", error, "blocked") from error
    path = Path(f"/proc/{pid}/stat")
    try:
        text = retry(lambda: path.read_text("utf-8", errors="replace"), path)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, a name in brackets, may hold anything.
    fields = text.rpartition(")")[2].split()
    state, ticks = fields[0], fields[19]
    is_dead = state in ("Z", "X")
    return None if is_dead else ticks
