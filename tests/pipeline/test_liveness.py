"""Liveness: a process of this machine is asked for, another machine's heartbeat is watched."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from sekd.io.processes import is_alive, this_process
from sekd.pipeline import liveness
from sekd.pipeline.liveness import Heartbeat, Observer

CHILD = """
import json, sys
from sekd.io.processes import this_process
print(json.dumps(this_process()), flush=True)
sys.stdin.read()
"""


def test_this_process_is_alive() -> None:
    assert is_alive(this_process()) is True


def test_a_process_that_has_ended_is_dead_also_while_it_is_a_zombie() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CHILD], **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        process = json.loads(child.stdout.readline())
        assert is_alive(process) is True
        child.stdin.close()
        deadline = time.monotonic() + 30
        while is_alive(process):  # nobody has waited for it yet: until then it is a zombie
            assert time.monotonic() < deadline
        child.wait()
        assert is_alive(process) is False


def test_a_process_id_that_was_given_out_again_is_another_process() -> None:
    assert is_alive(this_process() | {"born": "1"}) is False


def test_nothing_is_known_of_a_process_on_another_machine() -> None:
    assert is_alive(this_process() | {"host": "elsewhere"}) is None


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_heartbeat_that_does_not_change_for_a_minute_has_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(liveness, "time", clock)
    observer = Observer()
    for now, beat, expected in [
        (0, b"1", False),
        (60, b"1", False),
        (61, b"1", True),
        (62, b"2", False),
        (122, b"2", False),
        (123, b"2", True),
    ]:
        clock.now = now
        assert observer.has_stopped("00000-001", beat) is expected
    assert observer.has_stopped("00001-001", None) is False  # the first look at another attempt
    clock.now += 61
    assert observer.has_stopped("00001-001", None) is True


def test_a_heartbeat_survives_errors_and_ends_when_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "HEARTBEAT_SECONDS", 0.01)
    counts: list[int] = []
    has_beaten = threading.Event()

    def beat(count: int) -> None:
        counts.append(count)
        if count == 3:
            has_beaten.set()
        raise OSError("the disk is full")

    heartbeat = Heartbeat(beat)
    assert has_beaten.wait(30)
    heartbeat.stop()
    num_beats = len(counts)
    time.sleep(0.05)
    assert counts == list(range(1, num_beats + 1))
