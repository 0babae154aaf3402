"""Progress: a bar in a terminal, log lines now and then elsewhere."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from sekd.pipeline import progress
from sekd.pipeline.progress import show_activity, show_progress


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "Console", lambda **_: SimpleNamespace(is_terminal=False))
    caplog.set_level(logging.INFO, logger=progress.__name__)
    return clock


def test_a_line_is_logged_every_ten_seconds(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with show_progress("answers", 100) as shown:
        for _ in range(25):
            clock.now += 1
            shown.advance(2)
    assert caplog.messages == [
        "answers: 22/100 samples, 2.0/s, 39 s left",
        "answers: 44/100 samples, 2.0/s, 28 s left",
    ]


def test_a_line_says_what_went_wrong(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with show_progress("answers", 100) as shown:
        shown.note("2 quarantined")
        clock.now += 20
        shown.advance(10)
    assert caplog.messages == ["answers: 10/100 samples, 0.5/s, 180 s left, 2 quarantined"]


def test_a_line_can_be_logged_before_any_sample_is_done(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with show_progress("answers", 100) as shown:
        clock.now += 20
        shown.advance(0)
    assert caplog.messages == ["answers: 0/100 samples, 0.0/s, inf s left"]


def test_a_terminal_shows_a_bar(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    screen = io.StringIO()

    def open_console(*, stderr: bool) -> Console:
        assert stderr  # standard output is for results
        return Console(file=screen, force_terminal=True, color_system=None, width=120)

    monkeypatch.setattr(progress, "Console", open_console)
    caplog.set_level(logging.INFO, logger=progress.__name__)
    with show_progress("answers", 4) as shown:
        shown.note("1 shards failed")
        shown.advance(3)
    frame = next(line for line in screen.getvalue().splitlines() if "3/4" in line)
    assert all(text in frame for text in ("answers", "/s", "1 shards failed"))
    assert not caplog.messages


def test_activity_is_logged_every_ten_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with show_activity("benchmark") as show:
        for step in range(25):
            clock.now += 1
            show(f"step {step}")
    assert caplog.messages == ["benchmark: step 10", "benchmark: step 21"]


def test_a_terminal_shows_activity_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=40)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    with show_activity("benchmark") as show:
        show("x" * 100)
        console.print("above")
    rows = [row for row in screen.getvalue().splitlines() if "xx" in row]
    assert rows
    assert all(row.count("x") == 36 - len("benchmark: ") for row in rows)
