"""Run a command, and kill it with all its processes when the process that asked for it dies.

    python guard.py COMMAND ...

sekd starts this file as the leader of a process group of its own, and holds a pipe to its standard
input. However sekd ends, also by SIGKILL, the pipe is then closed, and the group is killed. The
file needs the standard library alone, and imports nothing of sekd.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def guard_command() -> None:
    """Run the command, and end as it ends: with its exit code, or by its signal."""
    threading.Thread(target=_kill_group_at_end_of_input, daemon=True).start()
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603  from sekd
    code = command.wait()
    if code < 0:
        if -code != signal.SIGKILL:  # which has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _kill_group_at_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    guard_command()
