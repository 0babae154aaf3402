"""Source: a table (CSV, JSONL or Parquet) with one row per image.

Rows of the published benchmark (arXiv 2505.24840) are taken as they come: their columns
``level<k>`` are held against the taxonomy, and their ``choices_level<k>`` become the options.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import DatasetSpec
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

Cells = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a table.

    Attributes:
        place: file and line, for messages.
        id: the image's path as written, less the prefix, or the cell of the id column.
        choices: option names per level below the root, where the row brings its own.
    """

    place: str
    id: str
    image: Path
    leaf: Node | None
    choices: tuple[tuple[str, ...], ...] | None


def read_rows(table: Path, spec: DatasetSpec, taxonomy: Taxonomy) -> Iterator[Row]:
    """Rows in the order of the table, those of other splits left out unread.

    Raises:
        ConfigError: naming the file and the line, if a column is missing or a value does not fit.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if table.suffix not in readers:
        raise ConfigError(f"{table}: a table is .csv, .jsonl or .parquet, not {table.suffix!r}")
    if not table.is_file():
        raise ConfigError(f"{table}: no such table")
    root = spec.image_root or table.parent
    splits = set()
    for place, cells in readers[table.suffix](table):
        if spec.split is not None:
            splits.add(_text(place, cells, "split"))
            if cells["split"] != spec.split:
                continue
        name = _image_name(place, cells, spec)
        label = _text(place, cells, spec.leaf_column) if spec.leaf_column in cells else ""
        leaf = _leaf(place, label, taxonomy) if label else None
        sample_id = _required(place, cells, spec.id_column) if spec.id_column else name
        yield Row(place, sample_id, root / name, leaf, _choices(place, cells, leaf, taxonomy))
    if splits and spec.split not in splits:
        raise ConfigError(f"{table}: no row of the split {spec.split!r}, only of {sorted(splits)}")


def _read_csv(path: Path) -> Iterator[tuple[str, Cells]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)  # an open quote would swallow the rows after it
            header = [cell.strip() for cell in next(reader, [])]
            if len(set(header)) < len(header):
                raise ConfigError(f"{path}, line 1: two columns of one name")
            for cells in reader:
                place = f"{path}, line {reader.line_num}"
                if cells and len(cells) != len(header):
                    raise ConfigError(f"{place}: {len(cells)} cells under {len(header)} columns")
                if cells:
                    yield place, dict(zip(header, cells, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from error


def _read_jsonl(path: Path) -> Iterator[tuple[str, Cells]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                cells = json.loads(line.decode("utf-8-sig"))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"{place}: not JSON in UTF-8: {error}") from error
            if not isinstance(cells, dict):
                raise ConfigError(f"{place}: expected an object, got {type(cells).__name__}")
            yield place, cells


def _read_parquet(path: Path) -> Iterator[tuple[str, Cells]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for cells in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", cells
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error


def _text(place: str, cells: Cells, column: str) -> str:
    """A cell's text, empty where it is null; whole numbers, common as ids, are text too."""
    if column not in cells:
        raise ConfigError(f"{place}: no column {column!r}; there are {', '.join(cells)}")
    value = cells[column]
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f"{place}: {column} must be text, not {type(value).__name__}")
    return str(value).strip()


def _required(place: str, cells: Cells, column: str) -> str:
    text = _text(place, cells, column)
    if not text:
        raise ConfigError(f"{place}: the column {column!r} is empty")
    return text


def _image_name(place: str, cells: Cells, spec: DatasetSpec) -> str:
    written = _required(place, cells, spec.image_column)
    name = written.removeprefix(spec.image_prefix)
    if not written.startswith(spec.image_prefix) or not name:
        raise ConfigError(
            f"{place}: expected the image_prefix {spec.image_prefix!r} and a path, got {written!r}"
        )
    return name


def _leaf(place: str, label: str, taxonomy: Taxonomy) -> Node:
    try:
        return taxonomy.leaf(label)
    except LookupError as error:
        raise ConfigError(f"{place}: {error}") from error


def _choices(
    place: str, cells: Cells, leaf: Node | None, taxonomy: Taxonomy
) -> tuple[tuple[str, ...], ...] | None:
    """Options that the row brings along, by level number; those of an explicit root left out."""
    options, names = {}, {}
    for column in cells:
        match = re.fullmatch(r"(choices_)?level([0-9]+)", column)
        if match is None or cells[column] in (None, "", []):
            continue  # a ragged table has empty cells below its shorter paths
        if match[1]:
            options[int(match[2])] = _names(f"{place}: {column}", cells[column])
        else:
            names[int(match[2])] = _text(place, cells, column)
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


def _names(place: str, value: Any) -> tuple[str, ...]:
    """A list of names, in a CSV as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{place} must be a list as JSON: {error}") from error
    if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise ConfigError(f"{place} must be a list of names, got {value!r}")
    return tuple(value)


def _fold(names: Iterator[str] | list[str]) -> list[str]:
    return [name.casefold() for name in names]
