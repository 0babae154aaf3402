"""Source: a table (CSV, JSONL or Parquet) with one row per image.

Rows of the published benchmark (arXiv 2505.24840) are taken as they come: their columns
``level<k>`` are held against the taxonomy, and their ``choices_level<k>`` become the options.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import DatasetSpec
from sekd.data.samples import Sample
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

Row = Mapping[str, Any]


def table_samples(table: Path, spec: DatasetSpec, taxonomy: Taxonomy) -> Iterator[Sample]:
    """Samples in the order of the rows.

    Raises:
        ConfigError: naming the file and the line, if a column is missing or a value does not fit.
    """
    if not table.is_file():
        raise ConfigError(f"{table}: no such table")
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    if table.suffix not in readers:
        raise ConfigError(f"{table}: a table is .csv, .jsonl or .parquet, not {table.suffix!r}")
    root = spec.image_root or table.parent
    for place, row in readers[table.suffix](table):
        if spec.split is not None and row.get("split") != spec.split:
            continue
        name = _image_name(place, row, spec)
        label = row.get(spec.leaf_column)
        leaf = _leaf(place, str(label), taxonomy) if label not in (None, "") else None
        sample_id = str(_value(place, row, spec.id_column)) if spec.id_column else name
        choices = _choices(place, row, leaf, taxonomy)
        yield Sample(sample_id, root / name, leaf, choices)


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ConfigError(f"{place}: not as many cells as the header has columns")
            yield place, row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{place}: not valid JSON: {error}") from error
            if not isinstance(row, dict):
                raise ConfigError(f"{place}: expected an object, got {type(row).__name__}")
            yield place, row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error
    with file:
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row


def _value(place: str, row: Row, column: str) -> Any:
    if column not in row:
        raise ConfigError(f"{place}: no column {column!r}; there are {', '.join(row)}")
    value = row[column]
    if value in (None, ""):
        raise ConfigError(f"{place}: the column {column!r} is empty")
    return value


def _image_name(place: str, row: Row, spec: DatasetSpec) -> str:
    name = str(_value(place, row, spec.image_column))
    if not name.startswith(spec.image_prefix):
        raise ConfigError(
            f"{place}: the image {name!r} does not begin with image_prefix {spec.image_prefix!r}"
        )
    return name.removeprefix(spec.image_prefix)


def _leaf(place: str, label: str, taxonomy: Taxonomy) -> Node:
    try:
        return taxonomy.leaf(label)
    except LookupError as error:
        raise ConfigError(f"{place}: {error}") from error


def _choices(
    place: str, row: Row, leaf: Node | None, taxonomy: Taxonomy
) -> tuple[tuple[str, ...], ...] | None:
    """Options that the row brings along, levels in numeric order, the root's left out."""
    matches = (re.fullmatch(r"choices_level(\d+)", column) for column in row)
    levels = sorted(int(match[1]) for match in matches if match and row[match[0]])
    if not levels:
        return None
    if leaf is None:
        raise ConfigError(f"{place}: options without a label")
    names = [str(_value(place, row, f"level{level}")) for level in levels]
    if taxonomy.root.name and names[0].casefold() == taxonomy.root.name.casefold():
        levels, names = levels[1:], names[1:]
    path = [node.name for node in taxonomy.path(leaf)]
    if [name.casefold() for name in names] != [name.casefold() for name in path]:
        raise ConfigError(
            f"{place}: its levels are {' > '.join(names)}, but {taxonomy.source} has "
            f"{' > '.join(path)}"
        )
    return tuple(tuple(row[f"choices_level{level}"]) for level in levels)
