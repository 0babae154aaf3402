"""Run ``python -m sekd``, and print the names of the threads that are left at its end (Linux)."""

from __future__ import annotations

import atexit
import runpy
import sys
from pathlib import Path


def print_threads() -> None:
    names = sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    sys.stderr.write(f"threads at exit: {' '.join(names)}\n")


atexit.register(print_threads)
runpy.run_module("sekd", run_name="__main__")
