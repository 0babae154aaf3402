"""Signals that ask a program to end raise like Ctrl-C, and every command says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sekd.io.stop_signals import (
    StoppedBySignalError,
    stop_signals_kept,
    stop_signals_raise,
    stopped_by,
)

PROGRAM = """
import click, signal, sys, time
from sekd.cli import main
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

@main.command()
def wait():
    print("waiting", flush=True)
    time.sleep(float(sys.argv[2]))
    print("done", flush=True)

main(["wait"])
"""


@pytest.fixture
def default_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Handlers as a new process has them, whatever a library that ran before has set."""
    monkeypatch.delenv("RANK", raising=False)
    with stop_signals_kept():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        yield


def send_to_this_process(number: signal.Signals) -> None:
    assert signal.getsignal(number) != signal.SIG_DFL  # it would end all tests
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("default_handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_raises_in_the_block_alone(number: signal.Signals) -> None:
    with pytest.raises(StoppedBySignalError) as caught, stop_signals_raise():
        send_to_this_process(number)
    assert stopped_by(caught.value) == number
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.usefixtures("default_handlers")
def test_the_handler_of_a_library_is_put_back() -> None:
    with stop_signals_raise():
        ours = signal.getsignal(signal.SIGTERM)
        with stop_signals_kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == ours != signal.SIG_DFL


def test_ctrl_c_is_a_stop_too() -> None:
    with stop_signals_raise():
        assert stopped_by(KeyboardInterrupt()) == signal.SIGINT


@pytest.mark.usefixtures("default_handlers")
def test_a_signal_is_known_behind_another_librarys_error() -> None:
    with stop_signals_raise():
        try:
            send_to_this_process(signal.SIGTERM)
        except StoppedBySignalError:
            assert stopped_by(KeyboardInterrupt()) == signal.SIGTERM


@pytest.mark.usefixtures("default_handlers")
def test_processes_of_torchrun_and_other_threads_keep_their_handlers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers = []

    def look() -> None:
        with stop_signals_raise():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    monkeypatch.setenv("RANK", "0")
    look()
    assert handlers == [signal.SIG_DFL, signal.SIG_DFL]


def stop(number: signal.Signals, mode: str = "", seconds: float = 60) -> tuple[int, str, str]:
    command = [sys.executable, "-c", PROGRAM, mode, str(seconds)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(number)
        output, errors = program.communicate(timeout=60)
    return program.returncode, output, errors


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
)
def test_a_stopped_command_says_how_to_go_on(number: signal.Signals, code: int, name: str) -> None:
    exit_code, output, errors = stop(number)
    assert (exit_code, output) == (code, "")
    assert errors == (
        f"sekd: stopped by {name}; what is done stays done, run the same command again to go on\n"
    )


def test_under_nohup_the_end_of_the_terminal_stops_nothing() -> None:
    assert stop(signal.SIGHUP, "nohup", seconds=1)[:2] == (0, "done\n")
