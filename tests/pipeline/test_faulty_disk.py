"""A quick version of `make torture`'s second half: some file operations of a run fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import faulty_disk
import pytest


def test_a_failing_operation_costs_no_sample_and_no_attempt() -> None:
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    program = str(Path(faulty_disk.__file__))
    command = [sys.executable, program, "--every", "400", "--errnos", "ESTALE,ENOSPC,EACCES"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 losses" in done.stdout
