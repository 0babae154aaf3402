"""Tests of what all commands share: help, verbosity, exit codes and shell completion."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from command_line import sekd
from evaluations import write_run

from sekd.cli import main
from sekd.commands import exit_codes
from sekd.commands.program import Program
from sekd.pipeline.progress import show_progress

ROOT = Path(__file__).parents[2]


def all_commands(
    group: click.Group = main, names: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the words that call each command, those below groups too."""
    for name, command in group.commands.items():
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, (*names, name))


@pytest.mark.parametrize("words", [(), *all_commands()], ids=" ".join)
def test_the_short_help_of_every_command_tells_the_exit_codes(words: tuple[str, ...]) -> None:
    short, long = sekd(*words, "-h"), sekd(*words, "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output
    assert "-q, --quiet" in short.output
    assert "-v, --verbose" in short.output
    codes = re.findall(r"^    (\d+)", short.output.split("Exit codes:")[1], re.M)
    named = (exit_codes.INCOMPLETE, exit_codes.CONFIG, exit_codes.FAILURES, exit_codes.STOPPED)
    assert [int(code) for code in codes] == [0, *named]
    assert max(len(line) for line in short.output.splitlines()) <= 80


def test_the_help_lists_every_command_once_and_in_full() -> None:
    text = sekd("-h").output
    titles = ["The job:", "Look:", "Care:"]
    assert sorted(titles, key=text.index) == titles
    lists = text[text.index("The job:") : text.index("Exit codes:")]
    assert sorted(re.findall(r"^  ([\w-]+)  ", lists, re.M)) == sorted(main.commands)
    assert "..." not in lists


def test_the_sequence_to_copy_stays_out_of_the_current_folder() -> None:
    (sequence,) = re.findall(r"Try it.*?:\n((?:      sekd .*\n)+)", sekd("-h").output)
    for line in sequence.splitlines():
        words = line.split()
        assert words[1] in main.commands
        assert any(word.startswith("~/sekd-demo") for word in words), line


@pytest.fixture
def program() -> Program:
    """A program with one command, which logs, shows progress and prints a result."""

    @click.command("work")
    def work() -> None:
        logger = logging.getLogger("sekd.work")
        logger.debug("a detail")
        logger.info("an event")
        logger.warning("a warning")
        with show_progress("work", 1) as progress:
            progress._last_line -= 60
            progress.advance(1)
        logger.error("an error")
        click.echo("the result")

    program = Program("program")
    program.add_section("The job", (work,))
    return program


@pytest.mark.parametrize("words", [["-q", "work"], ["work", "-q"], ["work", "--quiet"]])
def test_quiet_shows_errors_and_results_only(program: Program, words: list[str]) -> None:
    result = CliRunner().invoke(program, words)
    assert (result.stdout, result.stderr) == ("the result\n", "an error\n")


@pytest.mark.parametrize("words", [["-v", "work"], ["work", "-v"], ["work", "--verbose"]])
def test_verbose_shows_the_log_in_full(program: Program, words: list[str]) -> None:
    result = CliRunner().invoke(program, words)
    assert result.stdout == "the result\n"
    assert "DEBUG sekd.work: a detail\n" in result.stderr


def test_otherwise_events_and_progress_are_shown(program: Program) -> None:
    result = CliRunner().invoke(program, ["work"])
    assert re.fullmatch(r"an event\na warning\nwork: 1/1 samples, .*\nan error\n", result.stderr), (
        result.stderr
    )


def test_quiet_and_verbose_exclude_each_other(program: Program) -> None:
    for words in (["-q", "work", "-v"], ["work", "-v", "-q"]):
        result = CliRunner().invoke(program, words)
        assert result.exit_code == exit_codes.CONFIG
        assert "-q and -v exclude each other" in result.stderr


def test_a_command_with_a_config_obeys_too(config_file: Path) -> None:
    quiet = sekd("elicit", "-q", config_file, "--set", "elicit.nonsense=1")
    assert quiet.exit_code == exit_codes.CONFIG
    assert "nonsense" in quiet.stderr
    verbose = sekd("elicit", "-v", config_file, "--set", "model.path=nobody/nothing")
    assert verbose.exit_code == exit_codes.CONFIG
    assert "Traceback" in verbose.stderr
    assert "Traceback" in (config_file.parent / "run" / "sekd.log").read_text("utf-8")


def complete(words: str) -> list[str]:
    """What a shell is told about the last of the words."""
    environment = {
        **os.environ,
        "_SEKD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "from sekd.cli import main; main(prog_name='sekd')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines()


def test_shells_complete_commands_options_and_paths() -> None:
    assert complete("sekd ta") == ["plain,taxonomy"]
    assert complete("sekd taxonomy c") == ["plain,check", "plain,convert"]
    assert complete("sekd score --tax") == ["plain,--taxonomy"]
    assert complete("sekd elicit conf") == ["file,conf"]
    assert complete("sekd status ") == ["dir,"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_line_of_the_docs_sets_up_completion_in_bash() -> None:
    page = (ROOT / "docs/running.md").read_text("utf-8")
    (line,) = re.findall(r'eval "\$\(_SEKD_COMPLETE=bash_source sekd\)"', page)
    script = f'sekd() {{ {sys.executable} -m sekd "$@"; }}; {line}; complete -p sekd'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("sekd"), done.stderr
    assert "-F" in done.stdout


def test_a_reader_that_leaves_ends_a_command_in_silence(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sekd", "-q", "report", str(run)]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")
