"""Read the leaves of a taxonomy from JSON (leaf -> path) or CSV (one column per rank)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sekd.errors import ConfigError
from sekd.io.tables import column_names, read_chunks, row_place


@dataclass(frozen=True, slots=True)
class LeafPath:
    """One leaf as a file gives it.

    Attributes:
        place: where it stands, for messages.
        label: names the leaf; case does not matter.
        path: (name, rank) of each node from the top; the rank is ``None`` where none is known.
    """

    place: str
    label: str
    path: tuple[tuple[str, str | None], ...]


def read_leaf_paths(path: Path, level_names: Sequence[str]) -> list[LeafPath]:
    """Read all leaves of a ``.json`` or ``.csv`` file.

    Args:
        level_names: the rank of each position of a JSON path, empty where they have none. A CSV
            names its ranks in its header.

    Raises:
        ConfigError: if the file is missing or malformed, naming the file and the place in it.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such taxonomy file (data.taxonomy)")
    if path.suffix == ".json":
        return _read_json_taxonomy(path, level_names)
    if path.suffix == ".csv":
        if level_names:
            raise ConfigError(f"{path}: a CSV names its ranks in its header; remove level_names")
        return _read_csv_taxonomy(path)
    raise ConfigError(f"{path}: a taxonomy is a .json or a .csv file, not {path.suffix!r}")


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


def _read_json_taxonomy(path: Path, level_names: Sequence[str]) -> list[LeafPath]:
    def refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content: dict[str, object] = {}
        for key, value in pairs:
            if key in content:
                raise ConfigError(f"{path}: the leaf {key!r} occurs twice")
            content[key] = value
        return content

    try:
        content = json.loads(path.read_text("utf-8"), object_pairs_hook=refuse_duplicates)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected an object of leaf -> list of names, root first")
    leaves = []
    for label, names in content.items():
        place = f"{path}: leaf {label!r}"
        if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
            raise ConfigError(f"{place}: expected a list of names, root first, got {names!r}")
        leaves.append(LeafPath(place, label, with_ranks(names, level_names, str(path))))
    return leaves


def _read_csv_taxonomy(path: Path) -> list[LeafPath]:
    """Read a CSV in which the last filled cell of a row is the leaf's label."""
    ranks = column_names(path)
    if not ranks or not all(ranks):
        raise ConfigError(f"{path}, line 1: expected a header with one distinct name per rank")
    leaves = []
    for chunk in read_chunks(path):
        columns = [chunk.columns[rank] for rank in ranks]
        for number, *cells in zip(chunk.numbers, *columns, strict=True):
            place = row_place(path, number)
            names = tuple(
                (cell.strip(), rank)
                for cell, rank in zip(cells, ranks, strict=True)
                if cell.strip()
            )
            if not names:
                raise ConfigError(f"{place}: the row is empty")
            label, _ = names[-1]
            leaves.append(LeafPath(place, label, names))
    return leaves
