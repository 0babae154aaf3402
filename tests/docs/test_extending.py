"""Every example of docs/extending.md works on a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sekd.cli import main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
COUNTS = re.compile(r"^\*\*Files of the package:\*\* (\d) new, (\d) edited\.$", re.M)


@dataclass(frozen=True)
class Example:
    """One section of the page.

    Attributes:
        new_files: path -> content.
        diff: of the files that are edited; empty if there is none.
        trial: the program below "Try it:".
        counts: the numbers of new and edited files that the page states.
    """

    title: str
    new_files: dict[str, str]
    diff: str
    trial: str
    counts: tuple[int, int]

    @property
    def edited_files(self) -> set[str]:
        return set(re.findall(r"^\+\+\+ b/(\S+)$", self.diff, re.M))

    @classmethod
    def parse(cls, section: str) -> Example:
        (counts,) = COUNTS.findall(section)
        new_files, diffs, trials = {}, [], []
        for block in BLOCK.finditer(section):
            language, code = block.groups()
            above = section[: block.start()].rstrip().splitlines()[-1]
            if language == "diff":
                diffs.append(code)
            elif above == "Try it:":
                trials.append(code)
            else:
                new_files[above.removeprefix("`").removesuffix("`:")] = code
        (trial,) = trials
        num_new, num_edited = map(int, counts)
        return cls(section.split("\n")[0], new_files, "".join(diffs), trial, (num_new, num_edited))


SECTIONS = TEXT.split("\n## ")[1:]
EXAMPLES = [Example.parse(section) for section in SECTIONS if COUNTS.search(section)]
EXTENSIONS = (
    "A dataset layout",
    "An engine",
    "An executor",
    "A metric",
    "A loss term",
    "A control",
    "A column of the teacher's Parquet",
    "A report table",
    "A command",
)


def contents_below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in files}


def run(command: Sequence[str], folder: Path, **environment: str) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def apply(example: Example, copy: Path) -> None:
    for path, content in example.new_files.items():
        assert not (copy / path).exists(), f"{path} is not new"
        (copy / path).write_text(content, encoding="utf-8")
    (copy / "example.diff").write_text(example.diff, encoding="utf-8")
    # Line numbers of the page may be old, so only the context counts. git must not look for a
    # repository around the copy.
    command = ["git", "apply", "--recount", "-C1", "example.diff"]
    run(command, copy, GIT_CEILING_DIRECTORIES=str(copy.parent))


def test_the_page_has_an_example_of_each_extension() -> None:
    assert tuple(example.title for example in EXAMPLES) == EXTENSIONS


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_an_example_works(example: Example, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "sekd", copy / "sekd", ignore=shutil.ignore_patterns("__pycache__"))
    before = contents_below(copy / "sekd")
    apply(example, copy)
    after = contents_below(copy / "sekd")
    assert {path for path in after if path not in before} == set(example.new_files)
    assert {path for path in before if after[path] != before[path]} == example.edited_files
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "try_it.py").write_text(example.trial, encoding="utf-8")
    run([sys.executable, "try_it.py"], trial, PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_an_extension_touches_few_files(example: Example) -> None:
    num_new, num_edited = len(example.new_files), len(example.edited_files)
    assert (num_new, num_edited) == example.counts
    assert num_new <= 1
    assert num_edited <= 2


def test_the_shell_scripts_are_valid_and_call_commands_of_sekd(tmp_path: Path) -> None:
    scripts = [code for language, code in BLOCK.findall(TEXT) if language == "bash"]
    assert scripts
    for script in scripts:
        run(["bash", "-n", "-c", script], tmp_path)
        for command in re.findall(r"\bsekd (\w+)", script):
            assert command in main.commands
