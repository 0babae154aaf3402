"""docs/design.md is held to the code: its list of calls and its file map."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SECTIONS = dict(
    section.split("\n", maxsplit=1)
    for section in (DOCS / "design.md").read_text("utf-8").split("\n## ")[1:]
)
MAX_CALLS = 25
MAX_LINKS_TO_A_MODULE = 3


class Call(NamedTuple):
    """An entry of the list: a function, class or method, and the file that defines it."""

    name: str
    file: Path


def calls() -> list[Call]:
    """Entries of the list, each of which must begin with a link to code."""
    text = SECTIONS["A sample's way from disk to `metrics.json`"]
    entries = re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE)
    assert [int(number) for number, _ in entries] == list(range(1, len(entries) + 1))
    links = [re.match(r"\[`([\w.]+)`\]\(([^)]+)\)", entry) for _, entry in entries]
    unlinked = [entry for (_, entry), link in zip(entries, links, strict=True) if link is None]
    assert not unlinked, f"entries that do not begin with a link to code: {unlinked}"
    return [Call(link[1], (DOCS / link[2]).resolve()) for link in links if link]


def definitions(file: Path) -> set[str]:
    """Names of the functions and classes of a file, and ``Class.method``."""
    names = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


def modules() -> set[str]:
    """Paths of the modules of sekd, without empty ``__init__.py`` files."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sekd").rglob("*.py")
        if path.name != "__init__.py" or path.stat().st_size
    }


def mapped_modules() -> list[str]:
    """Paths in the file map: the folder of the heading, and the file of the line."""
    paths = []
    for folder_section in SECTIONS["File map"].split("\n### ")[1:]:
        folder, lines = folder_section.split("\n", maxsplit=1)
        paths += [f"{folder}/{name}" for name in re.findall(r"^- `([^`]+)`", lines, re.MULTILINE)]
    return paths


def test_the_list_of_calls_is_short() -> None:
    assert 0 < len(calls()) <= MAX_CALLS


@pytest.mark.parametrize("call", calls(), ids=lambda call: call.name)
def test_a_listed_call_is_defined_in_the_linked_file(call: Call) -> None:
    assert call.file.is_relative_to(ROOT / "sekd")
    assert call.file.is_file(), f"docs/design.md links {call.file}, which does not exist"
    assert call.name in definitions(call.file), f"{call.file} does not define {call.name}"


def test_no_module_is_linked_too_often() -> None:
    links = re.findall(r"\]\((\.\./sekd/[^)#]+)", "".join(SECTIONS.values()))
    too_often = [path for path, num in Counter(links).items() if num > MAX_LINKS_TO_A_MODULE]
    assert links
    assert not too_often, f"docs/design.md links too often to {too_often}"


def test_every_module_is_in_the_file_map() -> None:
    missing = sorted(modules() - set(mapped_modules()))
    assert not missing, f"add a line for each of these to the file map of docs/design.md: {missing}"


def test_the_file_map_names_no_other_files() -> None:
    unknown = sorted(set(mapped_modules()) - modules())
    assert not unknown, f"remove these from the file map of docs/design.md: {unknown}"


def test_the_file_map_names_each_module_once() -> None:
    repeated = [path for path, number in Counter(mapped_modules()).items() if number > 1]
    assert not repeated, f"the file map of docs/design.md names these twice: {repeated}"
