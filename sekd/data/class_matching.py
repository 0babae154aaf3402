"""Find the leaf of each class of a dataset, by stated steps and never by a guess.

A class is a folder's name, a cell of a label column, a synset, and so on. It is tried

1. in the alias file (``aliases`` of the dataset), which a person edits;
2. as the label or the node id of a leaf, case aside;
3. by the steps of :data:`sekd.data.names.NAME_STEPS`;
4. by its other names in turn, where the dataset's files give any ("tench" of ``n01440764``).

What is left is unmatched: :meth:`ClassMatcher.match` says why, and :meth:`ClassMatcher.nearest`
which leaves are near.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from sekd.data.names import NAME_STEPS, NameIndex
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError
from sekd.io.tables import read_chunks

ALIAS = "alias file"
UNMATCHED = "unmatched"
LEFT_OUT = "left out"
"""The step of a class that the alias file gives the leaf ``-``."""
_LEAVE_OUT = "-"


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """A class of a dataset, and the leaf that it matches, if it matches one.

    Attributes:
        label: the class as the dataset writes it.
        leaf: ``None`` where there is none.
        step: how the leaf was found: "alias file", a step's name, or that step "of its name 'x'";
            "unmatched" or "left out" without a leaf.
        problem: why there is no leaf, for messages; empty where there is one.
    """

    label: str
    leaf: Node | None
    step: str
    problem: str = ""


class ClassMatcher:
    """Matches the classes of one dataset with the leaves of its taxonomy.

    Args:
        other_names: label -> other names of that class.
        aliases: label -> leaf, or ``-`` to leave the class out.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        other_names: Mapping[str, Sequence[str]] | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        labels_are_paths: bool = False,
    ) -> None:
        self._taxonomy = taxonomy
        self._other_names = other_names or {}
        self._aliases = aliases or {}
        self._labels_are_paths = labels_are_paths
        self._index: NameIndex[str] | None = None
        self._nearest: _NearestNames | None = None
        self._matches: dict[str, ClassMatch] = {}
        self._folders: dict[str, ClassMatch] = {}

    @property
    def matches(self) -> Sequence[ClassMatch]:
        """The match of each class that was asked for, in the order of asking."""
        return list(self._matches.values())

    def match(self, label: str) -> ClassMatch:
        """Find the leaf of a class.

        Raises:
            ConfigError: if the alias file gives it a leaf that there is not.
        """
        if label not in self._matches:
            self._matches[label] = self._find(label)
        return self._matches[label]

    def _find(self, label: str) -> ClassMatch:
        if label in self._aliases:
            return self._alias(label, self._aliases[label])
        if self._labels_are_paths and "/" in label and not self._taxonomy.leaves_labelled(label):
            return self._find_folder(label)
        problem = f"no leaf {label!r} in {self._taxonomy.source}"
        for name in dict.fromkeys((label, unquote(label), *self._other_names.get(label, ()))):
            leaves, step = self._leaves(name)
            if len(leaves) == 1:
                own = name in (label, unquote(label))
                return ClassMatch(label, leaves[0], step if own else f"{step}, of its other name")
            if leaves:
                problem = (
                    f"{name!r} names {len(leaves)} leaves of {self._taxonomy.source}: write the "
                    f"path, e.g. {leaves[0].id!r}"
                )
                if self._labels_are_paths:
                    problem += " (in a folder's name, write / as %2F)"
        return ClassMatch(label, None, UNMATCHED, problem)

    def _find_folder(self, path: str) -> ClassMatch:
        """Take the first folder of a path that is a leaf, or a leaf below it in the taxonomy."""
        matches = [self._match_folder(folder) for folder in path.split("/")]
        found = next((match for match in matches if match.leaf is not None), None)
        if found is None or found.leaf is None:
            return replace(matches[-1], label=path)
        for match in matches:
            if match.leaf is not None and match.leaf.id.startswith(f"{found.leaf.id}/"):
                found = match
        return replace(found, label=path)

    def _match_folder(self, name: str) -> ClassMatch:
        if name not in self._folders:
            self._folders[name] = self._find(name)
        return self._folders[name]

    def _leaves(self, name: str) -> tuple[list[Node], str]:
        """Return the leaves that the first step finds, and the step."""
        leaves = self._taxonomy.leaves_labelled(name)
        if leaves:
            is_exact = any(name in (leaf.id, leaf.name) for leaf in leaves)
            return leaves, "exact" if is_exact else "case"
        if self._index is None:
            self._index = NameIndex(self._taxonomy.labelled_leaves())
        found = self._index.find(name)
        if found is None:
            return [], UNMATCHED
        return [self._taxonomy[node_id] for node_id in found.values], found.step

    def _alias(self, label: str, name: str) -> ClassMatch:
        if name == _LEAVE_OUT:
            return ClassMatch(label, None, LEFT_OUT)
        try:
            return ClassMatch(label, self._taxonomy.leaf(name), ALIAS)
        except LookupError as error:
            raise ConfigError(f"alias file, class {label!r}: {error}") from error

    def nearest(self, label: str) -> tuple[str, ...]:
        """Return the labels of up to three leaves whose names look like those of a class.

        This takes some milliseconds in a large taxonomy, so ask only for what is shown.
        """
        if self._nearest is None:
            self._nearest = _NearestNames(label for label, _ in self._taxonomy.labelled_leaves())
        name = label.rpartition("/")[2] if self._labels_are_paths else label
        names = (name, *self._other_names.get(label, ()))
        return tuple(dict.fromkeys(near for name in names for near in self._nearest.of(name)))[:3]


def refuse_shared_leaves(matches: Iterable[ClassMatch]) -> None:
    """Refuse two identifiers of different classes that were matched with one leaf.

    Raises:
        ConfigError: naming the classes and the leaf.
    """
    label_of: dict[str, ClassMatch] = {}
    for match in matches:
        if match.leaf is None or match.step == ALIAS:
            continue
        other = label_of.setdefault(match.leaf.id, match)
        if other is not match:
            raise ConfigError(
                f"the classes {other.label!r} ({other.step}) and {match.label!r} ({match.step}) "
                f"both match the leaf {match.leaf.name!r}; say in the alias file which one is it, "
                f"and give the other the leaf {_LEAVE_OUT}"
            )


def read_aliases(path: Path) -> dict[str, str]:
    """Read an alias file: a CSV with the columns ``class`` and ``leaf``.

    A class whose leaf is empty is not decided yet and stays unmatched.

    Raises:
        ConfigError: if the file is missing or malformed, or a class occurs twice.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such alias file; sekd data match writes one")
    aliases: dict[str, str] = {}
    for chunk in read_chunks(path):
        pairs = zip(chunk.filled_texts("class"), chunk.texts("leaf"), strict=True)
        for index, (label, leaf) in enumerate(pairs):
            if label in aliases:
                raise ConfigError(f"{chunk.place(index)}: the class {label!r} occurs twice")
            aliases[label] = leaf
    return {label: leaf for label, leaf in aliases.items() if leaf}


class _NearestNames:
    """Finds names that share many runs of three letters, as fast for many names as for few."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._sizes: list[int] = []
        self._rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(self._names):
            trigrams = _trigrams(name)
            self._sizes.append(len(trigrams))
            for trigram in trigrams:
                self._rows_of.setdefault(trigram, []).append(row)

    def of(self, name: str, num_names: int = 3) -> list[str]:
        """Return the nearest names, the nearest first; none that shares less than a quarter."""
        trigrams = _trigrams(name)
        rarest = sorted(trigrams, key=lambda trigram: len(self._rows_of.get(trigram, ())))[:24]
        shared = Counter(row for trigram in rarest for row in self._rows_of.get(trigram, ()))
        scored = [
            (2 * count / (len(rarest) + self._sizes[row]), -row) for row, count in shared.items()
        ]
        best = sorted(scored, reverse=True)[:num_names]
        return [self._names[-row] for score, row in best if score >= 0.25]


def _trigrams(name: str) -> set[str]:
    for step in NAME_STEPS:
        name = step.fold(name)
    padded = "  " + re.sub(r"[^\w ]", " ", name) + " "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}
