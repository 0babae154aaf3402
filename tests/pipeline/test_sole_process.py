"""Of two processes that would do the same work, the second refuses and names the first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sekd.errors import ConfigError
from sekd.io.files import create_exclusively, write_atomically
from sekd.io.processes import this_process
from sekd.io.records import seal
from sekd.pipeline import liveness, sole_process
from sekd.pipeline.sole_process import sole_process as work_alone

OTHER = """
import sys, time
from pathlib import Path
from sekd.errors import ConfigError
from sekd.pipeline.sole_process import sole_process
print("ready", flush=True)
sys.stdin.readline()
try:
    with sole_process(Path(sys.argv[1]), "trains"):
        print("works", flush=True)
        sys.stdin.readline()
except ConfigError as error:
    print("refused", flush=True)
"""


def start(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OTHER, str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_the_second_process_is_refused_and_told_which_is_the_first(tmp_path: Path) -> None:
    first = rf"process {os.getpid()} of {socket.gethostname()} trains there"
    with work_alone(tmp_path, "trains"):
        with start(tmp_path) as other:
            assert begin(other) == "refused"
        with pytest.raises(ConfigError, match=first), work_alone(tmp_path, "trains"):
            pass
    with work_alone(tmp_path, "trains"):  # the first has ended
        pass


def test_of_several_that_begin_at_once_one_works(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    words = [process.stdout.readline().strip() for process in processes if process.stdout]
    for process in processes:
        process.communicate("\n")
    assert sorted(words) == ["refused"] * 3 + ["works"]


def test_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    with start(tmp_path) as other:
        assert begin(other) == "works"
        other.kill()
    with work_alone(tmp_path, "trains"):
        pass


def test_an_error_in_the_work_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), work_alone(tmp_path, "trains"):
        raise ValueError("no")
    with work_alone(tmp_path, "trains"):
        pass


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_process_of_another_machine_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_alive: bool
) -> None:
    start_record = {"process": this_process() | {"host": "elsewhere 1 2"}, "started": 0}
    create_exclusively(tmp_path / "attempts" / "00000-001.start.json", seal(start_record))
    beat = tmp_path / "attempts" / "00000-001.beat.json"
    write_atomically(beat, "0")
    monkeypatch.setattr(liveness, "LOST_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(sole_process, "_POLL_SECONDS", 0.1)
    if not is_alive:
        with work_alone(tmp_path, "trains"):
            return
    monkeypatch.setattr(
        sole_process.time, "sleep", lambda seconds: write_atomically(beat, os.urandom(4).hex())
    )
    with pytest.raises(ConfigError, match="of elsewhere trains"), work_alone(tmp_path, "trains"):
        pass
