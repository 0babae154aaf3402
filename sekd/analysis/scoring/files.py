"""Predictions as CSV, JSONL or Parquet, read as columns; and in which line a row stands.

Columns other than those of :mod:`sekd.analysis.scoring.resolve` are not read. Nothing is guessed
from what a text looks like: an id such as 2024-01-01 or 007 stays as it is written.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from sekd.data.predictions import PREDICTION_SCHEMA, scored_rows
from sekd.errors import ConfigError

REQUIRED = ("sample_id", "truth", "prediction")
CELL_COLUMNS = ("model", "dataset", "paradigm", "control")
COLUMNS = (*REQUIRED, "level", *CELL_COLUMNS)
_FEW_VALUES = ("truth", "prediction", *CELL_COLUMNS)  # read as numbers of distinct texts
_NUM_PEEKED = 1000
_TEXT = pa.dictionary(pa.int32(), pa.string())


def read_table(path: Path) -> pa.Table:
    """Read the known columns, and ``row``, which counts from 0.

    ``truth`` and ``prediction`` are texts (plain or dictionary-encoded) or lists of texts, the cell
    columns texts, ``level`` whatever it is written as.

    Raises:
        ConfigError: if the file is missing, empty or malformed, or a column is missing.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ConfigError(f"{path}: predictions are .csv, .jsonl or .parquet, not {path.suffix!r}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        table = readers[path.suffix](path)
    except (OSError, UnicodeDecodeError) as error:  # an ArrowIOError is an OSError
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise ConfigError(
            f"{path}: no column {missing[0]!r}; give sample_id, truth and prediction, and level "
            "where a row is one level (there are: "
            + (", ".join(table.column_names) or "none")
            + ")"
        )
    if not len(table):
        raise ConfigError(f"{path}: no row of predictions")
    columns = {name: _as_text(path, name, table[name]) for name in table.column_names}
    return pa.table({**columns, "row": np.arange(len(table))})


def places(path: Path, rows: Sequence[int]) -> list[str]:
    """Where rows stand, for messages: ``line 7`` of a text file, ``row 7`` of a Parquet file.

    Args:
        rows: from 0, ascending.
    """
    if path.suffix == ".parquet":
        return [f"row {row + 1}" for row in rows]
    numbers = _csv_lines(path) if path.suffix == ".csv" else (n for n, _ in _json_lines(path))
    wanted = set(rows)
    last = max(rows, default=-1)
    found = {row: n for row, n in enumerate(islice(numbers, last + 1)) if row in wanted}
    return [f"line {found[row]}" for row in rows]


def _as_text(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if name == "level" or _is_text(kind) or (pa.types.is_dictionary(kind) and name != "sample_id"):
        return column
    if _is_list(kind) and name in ("truth", "prediction") and _is_text(kind.value_type):
        return column
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        wanted = "text or a list of texts" if name in ("truth", "prediction") else "text"
        raise ConfigError(f"{path}: the column {name!r} is {kind}; give {wanted}") from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _read_parquet(path: Path) -> pa.Table:
    try:
        schema = pq.read_schema(path)
        texts = [
            name
            for name in _FEW_VALUES
            if name in schema.names and _is_text(schema.field(name).type)
        ]
        columns = [name for name in COLUMNS if name in schema.names]
        if schema.names == PREDICTION_SCHEMA.names:  # sekd's own, perhaps in several rotations
            table = pq.read_table(path, columns=[*columns, "rotation"], read_dictionary=texts)
            return scored_rows(table).drop_columns("rotation")
        return pq.read_table(path, columns=columns, read_dictionary=texts)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error


def _read_csv(path: Path) -> pa.Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = [cell.strip() for cell in next(csv.reader(file), [])]
    if len(set(header)) < len(header):
        raise ConfigError(f"{path}, line 1: two columns of one name")
    columns = [name for name in COLUMNS if name in header]
    if not columns:
        return pa.table({name: pa.array([], pa.string()) for name in header})
    try:
        return pyarrow.csv.read_csv(
            path,
            pyarrow.csv.ReadOptions(column_names=header, skip_rows=1),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types={c: _TEXT if c in _FEW_VALUES else pa.string() for c in columns},
                include_columns=columns,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        _refuse_csv(path, len(header))
        raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from error


def _refuse_csv(path: Path, num_columns: int) -> None:
    """Name the line at which a CSV is malformed, if there is one that can be told."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells and len(cells) != num_columns:
                    raise ConfigError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells under "
                        f"{num_columns} columns"
                    )
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}") from error


def _csv_lines(path: Path) -> Iterator[int]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(reader)
        yield from (reader.line_num for cells in reader if cells)


def _json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        yield from ((n, line) for n, line in enumerate(file, start=1) if line.strip())


def _read_jsonl(path: Path) -> pa.Table:
    """Read at the speed of Arrow where every column is of one kind, else line by line."""
    peeked = [_parse(path, *line) for line in islice(_json_lines(path), _NUM_PEEKED)]
    kinds = {
        name: {type(row[name]) for row in peeked if row.get(name) is not None} for name in COLUMNS
    }
    known = {str: pa.string(), int: pa.int64(), list: pa.list_(pa.string())}
    schema = pa.schema(
        [
            (name, known.get(min(kind, default=str, key=str), pa.string()))
            for name, kind in kinds.items()
            if kind or any(name in row for row in peeked)
        ]
    )
    try:
        return pyarrow.json.read_json(
            path,
            pyarrow.json.ReadOptions(block_size=1 << 24),
            pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        rows = (_parse(path, *line) for line in _json_lines(path))
        return _from_rows(rows, schema.names)


def _parse(path: Path, number: int, line: bytes) -> Mapping[str, Any]:
    place = f"{path}, line {number}"
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: not JSON in UTF-8: {error}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{place}: expected an object, got {type(row).__name__}")
    for name in COLUMNS:
        value = row.get(name)
        if isinstance(value, dict | bool):
            raise ConfigError(
                f"{place}: {name} is {json.dumps(value)}; give a text or a list of texts"
            )
    return row


def _from_rows(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> pa.Table:
    """Columns of texts; a list is its JSON, which is read like one in a CSV."""
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    for row in rows:
        for name, column in columns.items():
            value = row.get(name)
            column.append(value if value is None or isinstance(value, str) else json.dumps(value))
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})
