"""Taxonomies in Newick: ``((Corvus_corax,Corvus_corone)Corvus,Pica_pica)Corvidae;``.

Underscores in names without quotes are spaces, as the format has it. Branch lengths and comments in
brackets are left out. Inner nodes without a name, or with a number as they have for the support of
a branch, are no nodes of a taxonomy: their children belong to the node above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sekd.data.taxonomies.base import LeafPath, TaxonomyOptions, with_ranks
from sekd.errors import ConfigError
from sekd.io.text import read_text_file

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<comment>\[[^\]]*\])
    | (?P<mark>[(),;])
    | (?P<length>:\s*[^\s(),;\[]*)
    | '(?P<quoted>(?:[^']|\'\')*)'
    | (?P<plain>[^\s(),:;\[']+(?:[ \t]+[^\s(),:;\[']+)*)
    )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[0-9.]+(?:[eE]-?\d+)?(?:/[0-9.]+)*")


def read_newick(path: Path, options: TaxonomyOptions) -> list[LeafPath]:
    """Read the first tree of a Newick file."""
    leaves = []
    for names in _paths(read_text_file(path), path):
        place = f"{path}: leaf {names[-1]!r}"
        if options.only is None or names[-1] in options.only:
            ranked = with_ranks(names, options.level_names, str(path))
            leaves.append(LeafPath(place, names[-1], ranked))
    return leaves


def _paths(text: str, path: Path) -> list[tuple[str, ...]]:
    """Return the names from the root to each leaf, in the order of the file.

    The name of an inner node stands behind its children, so they are read first: a group is a list
    of the paths below a node that has no name yet.
    """
    groups: list[list[tuple[str, ...]]] = [[]]
    closed: list[tuple[str, ...]] | None = None  # the paths of the group that has just been closed
    has_name = True
    for mark, name, place in _tokens(text, path):
        if mark == "(":
            groups.append([])
            closed = None
        elif mark in (",", ")", ";"):
            if not has_name and closed is None and mark != ";":
                raise ConfigError(f"{place}: a leaf without a name")
            groups[-1] += closed or []
            closed = None
            if mark == ";":
                break
            if mark == ")":
                if len(groups) == 1:
                    raise ConfigError(f"{place}: a bracket is closed that was not opened")
                closed = groups.pop()
        elif closed is None:
            closed = [(name,)]
        elif not _NUMBER.fullmatch(name):
            closed = [(name, *below) for below in closed]
        has_name = not mark
    else:
        raise ConfigError(f"{path}: the tree does not end with ';'")
    if len(groups) > 1:
        raise ConfigError(f"{path}: {len(groups) - 1} brackets are not closed")
    return groups[0]


def _tokens(text: str, path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (punctuation, "", place) or ("", name, place)."""
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            if not text[position:].strip():
                return
            raise ConfigError(
                f"{path}, line {line}: not Newick: {text[position : position + 40]!r}"
            )
        line += text.count("\n", position, found.end())
        position = found.end()
        place = f"{path}, line {line}"
        if found["mark"]:
            yield found["mark"], "", place
        elif found["quoted"] is not None:
            yield "", found["quoted"].replace("''", "'"), place
        elif found["plain"] is not None:
            yield "", found["plain"].replace("_", " "), place
