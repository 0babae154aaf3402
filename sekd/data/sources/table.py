"""The layout ``table``: a CSV, JSONL or Parquet file with one row per image.

Rows of the published benchmark (arXiv 2505.24840) are taken as they come: their columns
``level<k>`` are compared with the taxonomy, and their ``choices_level<k>`` become the options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sekd.config import DatasetSpec
from sekd.data.sources.base import Choices, Rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError
from sekd.io.tables import TABLE_SUFFIXES, TableChunk, read_chunks, row_place


class TableSource:
    """Reads the rows of ``table`` in their order."""

    setting: Literal["table"] = "table"

    def read_rows(self, spec: DatasetSpec, taxonomy: Taxonomy) -> Iterator[Rows]:
        """Read all rows of the split; of rows of other splits nothing else is looked at.

        Raises:
            ConfigError: naming the file and the line, if a column is missing or a value does not
                fit.
        """
        path = _table_path(spec)
        if path.suffix not in TABLE_SUFFIXES:
            raise ConfigError(f"{path}: a table is .csv, .jsonl or .parquet, not {path.suffix!r}")
        if not path.is_file():
            raise ConfigError(f"{path}: no such table")
        leaves = _LeafLookup(taxonomy)
        splits = set()
        for chunk in read_chunks(path):
            if spec.split is not None:
                row_splits = chunk.texts("split")
                splits.update(row_splits)
                chunk = chunk.select([split == spec.split for split in row_splits])
            yield _to_rows(chunk, spec, leaves)
        if splits and spec.split not in splits:
            raise ConfigError(
                f"{path}: no row of the split {spec.split!r}, only of {sorted(splits)}"
            )

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return ``image_root``, or the table's own folder."""
        return spec.image_root or _table_path(spec).parent

    def place(self, spec: DatasetSpec, number: int) -> str:
        """Name a line or a row of the table."""
        return row_place(_table_path(spec), number)


def _table_path(spec: DatasetSpec) -> Path:
    assert spec.table is not None  # the registry gives this source only then
    return spec.table


def _to_rows(chunk: TableChunk, spec: DatasetSpec, lookup: _LeafLookup) -> Rows:
    images = _image_paths(chunk, spec)
    leaves = lookup.leaves(chunk, chunk.texts(spec.leaf_column, is_optional=True))
    choices = None
    if any(name.startswith("choices_level") for name in chunk.columns):
        choices = [
            _read_choices(chunk.place(index), chunk.row(index), leaf, lookup.taxonomy)
            for index, leaf in enumerate(leaves)
        ]
    return Rows(
        ids=chunk.filled_texts(spec.id_column) if spec.id_column else images,
        images=images if spec.id_column else None,
        leaves=leaves,
        choices=choices,
        numbers=chunk.numbers,
    )


class _LeafLookup:
    """Finds leaves by label, each label once."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._leaf_of: dict[str, Node | None] = {"": None}

    def leaves(self, chunk: TableChunk, labels: Sequence[str]) -> list[Node | None]:
        for label in set(labels) - self._leaf_of.keys():
            try:
                self._leaf_of[label] = self.taxonomy.leaf(label)
            except LookupError as error:
                raise ConfigError(f"{chunk.place(labels.index(label))}: {error}") from error
        return [self._leaf_of[label] for label in labels]


def _image_paths(chunk: TableChunk, spec: DatasetSpec) -> list[str]:
    """Return the image column without ``image_prefix``, which every cell must begin with."""
    cells = chunk.filled_texts(spec.image_column)
    if not spec.image_prefix:
        return cells
    for index, cell in enumerate(cells):
        if not cell.startswith(spec.image_prefix) or cell == spec.image_prefix:
            raise ConfigError(
                f"{chunk.place(index)}: expected the image_prefix {spec.image_prefix!r} and a "
                f"path, got {cell!r}"
            )
    return [cell.removeprefix(spec.image_prefix) for cell in cells]


def _read_choices(
    place: str, row: Mapping[str, Any], leaf: Node | None, taxonomy: Taxonomy
) -> Choices | None:
    """Return the options that a row brings along, by level; ``None`` if it brings none.

    The levels that the row names must be the leaf's path. Where they include an explicit root, its
    options are left out.
    """
    names, options = _level_columns(place, row)
    if not options:
        return None
    if leaf is None:
        raise ConfigError(f"{place}: options without a label")
    levels = sorted(names)
    path = [node.name for node in taxonomy.path(leaf)]
    root = taxonomy.root.name
    if root and _fold(names[level] for level in levels) == _fold([root, *path]):
        options.pop(levels.pop(0), None)
    if _fold(names[level] for level in levels) != _fold(path):
        raise ConfigError(
            f"{place}: its levels are {' > '.join(names[level] for level in sorted(names))}, "
            f"but {taxonomy.source} has {' > '.join(path)}"
        )
    if sorted(options) != levels:
        raise ConfigError(f"{place}: levels {levels} have names, but {sorted(options)} options")
    return tuple(options[level] for level in levels)


def _level_columns(
    place: str, row: Mapping[str, Any]
) -> tuple[dict[int, str], dict[int, tuple[str, ...]]]:
    """Return the columns ``level<k>`` and ``choices_level<k>`` of a row, by ``k``.

    Empty cells are skipped: a ragged table has them below its shorter paths.
    """
    names, options = {}, {}
    for column, cell in row.items():
        match = re.fullmatch(r"(choices_)?level([0-9]+)", column)
        if match is None or cell in (None, "", []):
            continue
        if match[1]:
            options[int(match[2])] = _read_option_names(f"{place}: {column}", cell)
        else:
            names[int(match[2])] = str(cell).strip()
    return names, options


def _read_option_names(place: str, cell: Any) -> tuple[str, ...]:
    """Return a list of names, which a CSV holds as JSON."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{place} must be a list as JSON: {error}") from error
    if not (isinstance(cell, list) and all(isinstance(name, str) for name in cell)):
        raise ConfigError(f"{place} must be a list of names, got {cell!r}")
    return tuple(cell)


def _fold(names: Iterable[str]) -> list[str]:
    return [name.casefold() for name in names]
