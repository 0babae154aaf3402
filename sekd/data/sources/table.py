"""The layout ``table``: a file with one row per image.

Any format of :mod:`sekd.io.formats` is read: CSV with any delimiter, TSV, JSONL, Parquet, XLSX.
Rows of the published benchmark (arXiv 2505.24840) are taken as they come: their columns
``level<k>`` are compared with the taxonomy, and their ``choices_level<k>`` become the options.

A row that is well formed but holds what no image can be named by (a NUL, a lone surrogate, a number
of thousands of digits) is set aside as one sample, with its reason.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sekd.config import DatasetSpec
from sekd.config.messages import nearest
from sekd.data.downloads import download_images
from sekd.data.sources.base import RowLevels, Rows, Source, escape, is_clean, set_aside
from sekd.data.taxonomies.base import LeafPath
from sekd.errors import ConfigError
from sekd.io.formats import FORMATS
from sekd.io.table_chunk import TableChunk, row_place
from sekd.io.tables import read_chunks

logger = logging.getLogger(__name__)
_DEFAULT_LEAF_COLUMN = "label"


class TableSource(Source):
    """Reads the rows of ``table`` in their order."""

    setting = "table"

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read all rows of the split; of rows of other splits nothing else is looked at.

        Raises:
            ConfigError: naming the file and the line, if a column is missing or a value does not
                fit.
        """
        path = _checked_path(spec)
        splits = set()
        columns: dict[str, None] = {}
        for chunk in read_chunks(path):
            columns |= dict.fromkeys(chunk.columns)
            if spec.split is not None:
                row_splits = chunk.texts("split", is_optional=bool(chunk.faults))
                splits.update(row_splits)
                chunk = chunk.select(
                    [split == spec.split or i in chunk.faults for i, split in enumerate(row_splits)]
                )
            yield _to_rows(chunk, spec)
        if splits and spec.split not in splits:
            raise ConfigError(
                f"{path}: no row of the split {spec.split!r}, only of {sorted(splits)}"
            )
        _check_leaf_column(spec, path, list(columns))

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return ``image_root``, or the table's own folder."""
        return spec.image_root or _table_path(spec).parent

    def place(self, spec: DatasetSpec, number: int) -> str:
        """Name a line or a row of the table."""
        return row_place(_table_path(spec), number)

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Make a taxonomy of the columns that ``level_names`` names, root first.

        Raises:
            ConfigError: if ``level_names`` names no columns of the table.
        """
        path = _checked_path(spec)
        if not spec.level_names:
            raise ConfigError(
                f"{path}: give `taxonomy`, or the columns of the table that hold the levels, root "
                "first, as `level_names`"
            )
        leaves: dict[tuple[str, ...], LeafPath] = {}
        for chunk in read_chunks(path):
            columns = [chunk.texts(name) for name in spec.level_names]
            labels = chunk.texts(spec.leaf_column, is_optional=True)
            for index, names in enumerate(zip(*columns, strict=True)):
                ranked = tuple((n, r) for n, r in zip(names, spec.level_names, strict=True) if n)
                if ranked and names not in leaves:
                    label = labels[index] or ranked[-1][0]
                    leaves[names] = LeafPath(chunk.place(index), label, ranked)
        return list(leaves.values())


def _table_path(spec: DatasetSpec) -> Path:
    assert spec.table is not None  # the registry gives this source only then
    return spec.table


def _checked_path(spec: DatasetSpec) -> Path:
    path = _table_path(spec)
    if path.suffix not in FORMATS and not path.suffixes[-2:-1]:
        known = ", ".join(name for name in FORMATS if name.startswith("."))
        raise ConfigError(f"{path}: a table is one of {known}, not {path.suffix!r}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such table")
    return path


def _check_leaf_column(spec: DatasetSpec, path: Path, columns: Sequence[str]) -> None:
    """Refuse a column of labels that is named but absent; say that there are no labels."""
    if spec.leaf_column in columns or not columns:
        return
    if spec.leaf_column != _DEFAULT_LEAF_COLUMN:
        raise ConfigError(
            f"{path}: leaf_column: there is no column {spec.leaf_column!r}"
            f"{nearest(spec.leaf_column, columns)}"
        )
    logger.info(
        "%s: no column %r, so its samples have no labels; leaf_column names another one of %s",
        *(path, spec.leaf_column, ", ".join(columns)),
    )


def _to_rows(chunk: TableChunk, spec: DatasetSpec) -> Rows:
    aside = dict(chunk.faults)
    if aside:  # the other rows are read as if these were not there
        chunk_of_rest = chunk.select([index not in aside for index in range(len(chunk.numbers))])
    else:
        chunk_of_rest = chunk
    rows = _read_rows(chunk_of_rest, spec)
    if not aside:
        return rows
    return Rows(
        ids=[
            *rows.ids,
            *(f"{chunk.path.name}, {chunk.place(i).rpartition(', ')[2]}" for i in aside),
        ],
        images=[
            *(rows.images or rows.ids),
            *(set_aside(str(chunk.path), why) for why in aside.values()),
        ],
        labels=[*rows.labels, *[None] * len(aside)],
        levels=None if rows.levels is None else [*rows.levels, *[None] * len(aside)],
        numbers=[*rows.numbers, *(chunk.numbers[index] for index in aside)],
    )


def _read_rows(chunk: TableChunk, spec: DatasetSpec) -> Rows:
    if not chunk.numbers:
        return Rows(ids=[], labels=[], numbers=[])
    names = _image_paths(chunk, spec)
    images = names if spec.downloads is None else download_images(names, spec.downloads)
    ids = chunk.filled_texts(spec.id_column) if spec.id_column else names
    labels = chunk.texts(spec.leaf_column, is_optional=True)
    is_bad = [
        not (is_clean(i) and is_clean(image) and is_clean(label))
        for i, image, label in zip(ids, images, labels, strict=True)
    ]
    levels = None
    if any(name.startswith("choices_level") for name in chunk.columns):
        levels = [
            _row_levels(chunk.place(index), chunk.row(index)) for index in range(len(chunk.numbers))
        ]
    why = "its row holds a character that is no text"
    return Rows(
        ids=[escape(text) if bad else text for text, bad in zip(ids, is_bad, strict=True)],
        images=None
        if images is ids and not any(is_bad)
        else [
            set_aside(image, why) if bad else image
            for image, bad in zip(images, is_bad, strict=True)
        ],
        labels=[
            label if label and not bad else None for label, bad in zip(labels, is_bad, strict=True)
        ],
        levels=levels,
        numbers=chunk.numbers,
    )


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


def _row_levels(place: str, row: Mapping[str, Any]) -> RowLevels | None:
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
    return RowLevels(names, options) if options else None


def _read_option_names(place: str, cell: Any) -> tuple[str, ...]:
    """Return a list of names, which a CSV holds as JSON."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{place} must be a list as JSON: {error}") from error
    if not (isinstance(cell, list) and all(isinstance(name, str) for name in cell)):
        raise ConfigError(f"{place} must be a list of names, got {cell!r:.200}")
    return tuple(cell)
