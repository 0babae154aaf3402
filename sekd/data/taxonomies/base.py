"""Leaves with their paths: every format of a taxonomy is read as these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sekd.errors import ConfigError

ParentRule = Literal["refuse", "first", "shortest"]
"""How a node with several parents is treated: it is refused, keeps the one that comes first
in the file, or the one with the fewest nodes above it (of two, the one that comes first)."""


@dataclass(frozen=True, slots=True)
class LeafPath:
    """One leaf as a file gives it.

    Attributes:
        place: where it stands, for messages.
        label: names the leaf; case does not matter.
        path: (name, rank) of each node from the top; the rank is ``None`` where none is known.
        common_name: of the leaf, where the file gives one beside the scientific name.
        other_names: by which a class may name the leaf, such as its id in the file.
    """

    place: str
    label: str
    path: tuple[tuple[str, str | None], ...]
    common_name: str | None = None
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxonomyOptions:
    """How a taxonomy is read.

    Attributes:
        level_names: the rank of each position of a path, where the file names none; of a table with
            rank columns, the names of these columns, root first.
        several_parents: what is done with a node that has several parents.
        only: names or ids of the leaves to read; others are left out. ``None`` reads all.
    """

    level_names: Sequence[str] = ()
    several_parents: ParentRule = "refuse"
    only: frozenset[str] | None = None


def with_ranks(
    names: Sequence[str], level_names: Sequence[str], source: str
) -> tuple[tuple[str, str | None], ...]:
    """Pair the names of a path with the ranks of their levels.

    Raises:
        ConfigError: if there are level names, but fewer than the path has levels.
    """
    if not level_names:
        return tuple((name, None) for name in names)
    if len(names) > len(level_names):
        raise ConfigError(
            f"{source}: a path has {len(names)} levels ({' > '.join(names)}) but level_names has "
            f"{len(level_names)}"
        )
    return tuple(zip(names, level_names, strict=False))
