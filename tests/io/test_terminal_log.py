"""Tests of the log on the terminal."""

from __future__ import annotations

import logging

import pytest

from sekd.io.terminal_log import is_quiet, log_to_terminal, show_from

logger = logging.getLogger("sekd.somewhere")


def write_one_of_each() -> None:
    logger.debug("a detail")
    logger.info("an event")
    logger.warning("a warning")
    try:
        raise ValueError("the cause")
    except ValueError:
        logger.exception("an error")


def test_an_event_is_its_message_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_terminal():
        write_one_of_each()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "an event\na warning\nan error\n"


def test_with_errors_only_nothing_else_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_terminal():
        assert not is_quiet()
        show_from(logging.ERROR)
        assert is_quiet()
        write_one_of_each()
    assert not is_quiet()
    assert capsys.readouterr().err == "an error\n"


def test_in_full_it_says_where_an_event_is_from_and_shows_tracebacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with log_to_terminal():
        show_from(logging.DEBUG)
        write_one_of_each()
    shown = capsys.readouterr().err
    assert shown.startswith("DEBUG sekd.somewhere: a detail\nINFO sekd.somewhere: an event\n")
    assert "Traceback (most recent call last)" in shown
    assert "ValueError: the cause" in shown


def test_the_log_is_afterwards_as_it_was_before(capsys: pytest.CaptureFixture[str]) -> None:
    package = logging.getLogger("sekd")
    before = package.handlers, package.level, package.propagate
    with log_to_terminal():
        package.addHandler(logging.NullHandler())
    assert (package.handlers, package.level, package.propagate) == before


def test_a_terminal_that_is_gone_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, text: str) -> None:
            raise BrokenPipeError(text)

    monkeypatch.setattr("sys.stderr", Gone())
    with log_to_terminal():
        logger.error("lost")
