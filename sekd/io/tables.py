"""Read tables: CSV, JSONL and Parquet, in chunks of rows or as whole Arrow columns.

:func:`read_chunks` gives Python values, some thousand rows at a time, and knows the line of each
row. :func:`read_columns` gives a whole table as Arrow columns, at the speed of Arrow. Both refuse
the same files with the same messages, which name the file and, where one can be told, the line.
:func:`read_chunks` also reads the formats of :mod:`sekd.io.formats`, such as XLSX and tabs.

Nothing is guessed from what a text looks like: an id such as 2024-01-01 or 007 stays as written.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from sekd.errors import ConfigError, in_one_line
from sekd.io.formats import TableFile
from sekd.io.table_chunk import ABSENT, TableChunk, row_place, row_unit
from sekd.io.text import PARSE_ERRORS

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROWS_PER_CHUNK = 1 << 12
_PEEKED_LINES = 1000
"""The number of lines of a JSONL file from which its columns and their types are taken."""
_JSON_BLOCK_BYTES = 1 << 24
_JSON_TYPES = {str: pa.string(), int: pa.int64(), list: pa.list_(pa.string())}
_ENCODED_TEXT = pa.dictionary(pa.int32(), pa.string())


def row_units(path: Path, rows: Sequence[int]) -> list[str]:
    """Name rows in a message about one file: ``line 7`` of a text file, ``row 7`` of Parquet.

    Args:
        rows: positions in the table that :func:`read_columns` gives, from 0.
    """
    if path.suffix == ".parquet":
        return [f"row {row + 1}" for row in rows]
    if path.suffix == ".csv":  # Arrow read the file already, and takes more kinds of quotes
        lines = (line for line, _ in islice(_csv_rows(path, strict=False), 1, None))
    else:
        lines = (line for line, _ in _json_lines(path))
    line_of = dict(enumerate(islice(lines, max(rows, default=-1) + 1)))
    return [f"line {line_of[row]}" for row in rows]


def read_chunks(path: Path) -> Iterator[TableChunk]:
    """Read a table in chunks of rows. Blank lines are skipped.

    Args:
        path: of a file of any format of :data:`sekd.io.formats.FORMATS`.

    Raises:
        ConfigError: if the file is malformed or cannot be read.
    """
    readers: dict[str, Callable[[Path], Iterator[TableChunk]]] = {
        ".csv": _csv_chunks,
        ".jsonl": _json_chunks,
        ".ndjson": _json_chunks,
        ".parquet": _parquet_chunks,
    }
    try:
        if path.suffix == ".csv" and not _has_commas(path):
            yield from _other_chunks(path)
        else:
            yield from readers.get(path.suffix, _other_chunks)(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns, of a JSONL file those of its first 1,000 lines.

    Raises:
        ConfigError: if the file is malformed or cannot be read, or two columns have one name.
    """
    try:
        if path.suffix == ".csv" and _has_commas(path):
            _, names = _csv_header(path)
            return names
        if path.suffix == ".parquet":
            return list(_parquet_schema(path).names)
        if path.suffix not in (".jsonl", ".ndjson"):
            return list(next((chunk.columns for chunk in _other_chunks(path)), ()))
        return list(dict.fromkeys(chain.from_iterable(_peek_json(path))))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def read_columns(path: Path, names: Sequence[str], *, encoded: Collection[str] = ()) -> pa.Table:
    """Read some columns of a whole table.

    A CSV gives texts. JSONL gives texts, whole numbers or lists of texts where each column is of
    one kind; else every column is text, and a cell of another kind is its JSON. An empty cell of a
    CSV is null.

    Args:
        path: of a file with one of :data:`TABLE_SUFFIXES`.
        names: columns that :func:`column_names` names, at least one.
        encoded: columns with few distinct texts, which CSV and Parquet give dictionary-encoded.

    Raises:
        ConfigError: if the file is malformed or cannot be read.
    """
    try:
        if path.suffix == ".csv":
            return _csv_columns(path, names, encoded)
        if path.suffix == ".parquet":
            return _parquet_columns(path, names, encoded)
        return _json_columns(path, names)
    except OSError as error:  # an ArrowIOError is an OSError
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a type is a plain text, of either length."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


# Formats of other programs


def _other_chunks(path: Path) -> Iterator[TableChunk]:
    """Read any format of :mod:`sekd.io.formats`, and log what was found about it."""
    file = TableFile.open(path)
    rows = file.rows()
    try:
        while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
            names = dict.fromkeys(chain.from_iterable(row for _, row in chunk))
            columns = {name: [row.get(name, ABSENT) for _, row in chunk] for name in names}
            yield TableChunk(path, [number for number, _ in chunk], columns)
    except PARSE_ERRORS as error:
        raise ConfigError(f"{path}: cannot be read: {in_one_line(error)}") from error
    for note in file.notes:
        logger.info("%s", note)


# CSV


def _has_commas(path: Path) -> bool:
    """Tell whether a CSV has commas between its cells; what else has none has one column."""
    with path.open("rb") as file:
        unquoted = b"".join(file.readline(1 << 20).split(b'"')[::2])
    return max(b",\t;|", key=unquoted.count) == ord(",")


def _csv_rows(path: Path, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of the header and of every row, each with the line on which it ends.

    Args:
        strict: refuse stray quotes: an open one would swallow the rows after it.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=strict)
        try:
            yield from ((reader.line_num, cells) for cells in reader if cells)
        except csv.Error as error:
            place = row_place(path, reader.line_num)
            raise ConfigError(f"{place}: not a CSV file in UTF-8: {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from error


def _csv_header(path: Path) -> tuple[int, list[str]]:
    """Return the line on which the header ends, and the names in it; (1, []) of an empty file."""
    return _check_header(path, *next(_csv_rows(path), (1, [])))


def _check_header(path: Path, line: int, cells: Sequence[str]) -> tuple[int, list[str]]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names):
        raise ConfigError(f"{row_place(path, line)}: two columns of one name")
    return line, names


def _csv_chunks(path: Path) -> Iterator[TableChunk]:
    rows = _csv_rows(path)
    _, names = _check_header(path, *next(rows, (1, [])))
    while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
        for line, cells in chunk:
            if len(cells) != len(names):
                raise ConfigError(
                    f"{row_place(path, line)}: {len(cells)} cells under {len(names)} columns"
                )
        columns = zip(*(cells for _, cells in chunk), strict=True)
        yield TableChunk(path, [line for line, _ in chunk], dict(zip(names, columns, strict=True)))


def _csv_columns(path: Path, names: Sequence[str], encoded: Collection[str]) -> pa.Table:
    line, header = _csv_header(path)
    types = {name: _ENCODED_TEXT if name in encoded else pa.string() for name in names}
    try:
        return pyarrow.csv.read_csv(
            path,
            pyarrow.csv.ReadOptions(column_names=header, skip_rows=line),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=types,
                include_columns=names,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        # Python's reader names the line, where there is a malformed one.
        num_rows = sum(len(chunk.numbers) for chunk in _csv_chunks(path))
        if not num_rows:  # Arrow refuses a header without a line break
            return pa.table({name: pa.array([], types[name]) for name in names})
        raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from error


# JSONL


def _json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of every line that is not blank."""
    with path.open("rb") as file:
        yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())


def _parse_json_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{row_place(path, number)}: not JSON in UTF-8: {error}") from error
    if not isinstance(row, dict):
        place = row_place(path, number)
        raise ConfigError(f"{place}: expected an object, got {type(row).__name__}")
    return row


def _json_chunks(path: Path) -> Iterator[TableChunk]:
    lines = _json_lines(path)
    while chunk := list(islice(lines, _ROWS_PER_CHUNK)):
        rows, faults = [], {}
        for index, (number, line) in enumerate(chunk):
            try:
                rows.append(_parse_json_line(path, number, line))
            except PARSE_ERRORS as error:
                rows.append({})
                faults[index] = f"{row_unit(path)} {number} cannot be parsed: {in_one_line(error)}"
        names = dict.fromkeys(chain.from_iterable(rows))
        columns = {name: [row.get(name, ABSENT) for row in rows] for name in names}
        yield TableChunk(path, [number for number, _ in chunk], columns, faults)


def _peek_json(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in islice(_json_lines(path), _PEEKED_LINES):
        try:
            rows.append(_parse_json_line(path, number, line))
        except PARSE_ERRORS as error:
            raise ConfigError(f"{row_place(path, number)}: {in_one_line(error)}") from error
    return rows


def _json_columns(path: Path, names: Sequence[str]) -> pa.Table:
    peeked = _peek_json(path)
    schema = pa.schema([(name, _json_type([row.get(name) for row in peeked])) for name in names])
    try:
        return pyarrow.json.read_json(
            path,
            pyarrow.json.ReadOptions(block_size=_JSON_BLOCK_BYTES),
            pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:  # a column of several kinds, or a malformed line
        return _json_texts(path, names)


def _json_type(cells: Sequence[Any]) -> pa.DataType:
    """Return the Arrow type of some cells; text where they are of several kinds."""
    kinds = {type(cell) for cell in cells if cell is not None}
    return _JSON_TYPES.get(kinds.pop(), pa.string()) if len(kinds) == 1 else pa.string()


def _json_texts(path: Path, names: Sequence[str]) -> pa.Table:
    """Read columns as texts, line by line; a cell that is no text is its JSON."""
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    for number, line in _json_lines(path):
        row = _parse_json_line(path, number, line)
        for name, column in columns.items():
            cell = row.get(name)
            if isinstance(cell, dict | bool):
                raise ConfigError(
                    f"{row_place(path, number)}: {name} is {json.dumps(cell)}; give a text or a "
                    "list of texts"
                )
            column.append(cell if cell is None or isinstance(cell, str) else json.dumps(cell))
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


# Parquet


def _parquet_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except pa.ArrowException as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error


def _parquet_chunks(path: Path) -> Iterator[TableChunk]:
    first = 1
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_PER_CHUNK):
                numbers = range(first, first + len(batch))
                yield TableChunk(path, numbers, _to_pydict(batch))
                first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error


def _to_pydict(batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """Return a batch as Python values; bytes of a text that are no UTF-8 become lone surrogates."""
    try:
        columns: dict[str, list[Any]] = batch.to_pydict()
    except UnicodeDecodeError:
        texts = {name for name in batch.schema.names if is_text(batch.schema.field(name).type)}
        columns = {}
        for name in batch.schema.names:
            if name not in texts:
                columns[name] = batch[name].to_pylist()
                continue
            cells = batch[name].cast(pa.large_binary()).to_pylist()
            columns[name] = [
                None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in cells
            ]
    return columns


def _parquet_columns(path: Path, names: Sequence[str], encoded: Collection[str]) -> pa.Table:
    schema = _parquet_schema(path)
    texts = [name for name in names if name in encoded and is_text(schema.field(name).type)]
    try:
        return pq.read_table(path, columns=list(names), read_dictionary=texts)
    except pa.ArrowException as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error
