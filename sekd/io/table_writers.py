"""Write tables for other programs, row by row: CSV, TSV, JSONL, Parquet and XLSX.

Every number is written in full. A missing value is an empty cell, and ``null`` in JSONL.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.errors import ConfigError
from sekd.io.files import replace_atomically

TableRow: TypeAlias = Mapping[str, Any]
"""Column -> cell; every column of the schema is there."""
RowWriter: TypeAlias = Callable[[TableRow], None]

_ROWS_PER_GROUP = 1 << 14
_XLSX_ROWS = (1 << 20) - 1
"""Rows that a sheet holds below its heading."""


def check_writable(path: Path) -> None:
    """Check, before anything is computed, that a table can be written under this name.

    Raises:
        ConfigError: if its suffix is none of :data:`TABLE_WRITERS`, its folder is not there, or a
            package is missing.
    """
    if path.suffix.lower() not in TABLE_WRITERS:
        raise ConfigError(f"{path}: a table is written as one of {', '.join(TABLE_WRITERS)}")
    check_place(path)
    if path.suffix.lower() == ".xlsx":
        _import_openpyxl(path)


def check_place(path: Path) -> None:
    """Check, before anything is computed, that a file can stand there.

    Raises:
        ConfigError: if its folder is not there, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder")


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[TableRow]) -> int:
    """Write rows as they come; the file is there when all of them are. Return their number.

    Args:
        path: its suffix says the format, one of :data:`TABLE_WRITERS`.

    Raises:
        ConfigError: as :func:`check_writable`, and if an XLSX would have too many rows.
    """
    check_writable(path)
    num_rows = 0
    with (
        replace_atomically(path) as temporary,
        TABLE_WRITERS[path.suffix.lower()](temporary, schema) as write,
    ):
        for row in rows:
            write(row)
            num_rows += 1
    return num_rows


def text_writer(file: TextIO, schema: pa.Schema, suffix: str) -> RowWriter:
    """Return the function that writes a row to a text: ``.csv``, ``.tsv`` or ``.jsonl``.

    The heading of a CSV or TSV is written at once.
    """
    if suffix == ".jsonl":
        return lambda row: print(json.dumps(dict(row), ensure_ascii=False), file=file)
    delimiter = "\t" if suffix == ".tsv" else ","
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(schema.names)

    def write(row: TableRow) -> None:
        cells = (row[name] for name in schema.names)
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in cells])

    return write


@contextmanager
def _write_text(path: Path, schema: pa.Schema, suffix: str) -> Iterator[RowWriter]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield text_writer(file, schema, suffix)


@contextmanager
def _write_parquet(path: Path, schema: pa.Schema) -> Iterator[RowWriter]:
    waiting: list[TableRow] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        def write(row: TableRow) -> None:
            waiting.append(row)
            if len(waiting) == _ROWS_PER_GROUP:
                flush()

        yield write
        flush()


@contextmanager
def _write_xlsx(path: Path, schema: pa.Schema) -> Iterator[RowWriter]:
    openpyxl = _import_openpyxl(path)
    illegal = openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    num_rows = 0

    def cell_of(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        cell = openpyxl.cell.WriteOnlyCell(sheet, illegal.sub("\N{REPLACEMENT CHARACTER}", value))
        cell.data_type = "s"  # a name that begins with "=" is no formula
        return cell

    def write(row: TableRow) -> None:
        nonlocal num_rows
        num_rows += 1
        if num_rows > _XLSX_ROWS:
            raise ConfigError(f"XLSX holds at most {_XLSX_ROWS:,} rows; write CSV or Parquet")
        sheet.append([cell_of(row[name]) for name in schema.names])

    sheet.append([cell_of(name) for name in schema.names])
    try:
        yield write
    except BaseException:
        sheet.close()  # openpyxl's own file would complain when it is collected
        raise
    with path.open("wb") as file:  # openpyxl would judge the temporary name by its suffix
        book.save(file)


def _import_openpyxl(path: Path) -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise ConfigError(
            f"{path}: XLSX needs openpyxl; install sekd with the extra 'files'"
        ) from error
    return openpyxl


TABLE_WRITERS: Mapping[str, Callable[[Path, pa.Schema], Any]] = {
    ".csv": partial(_write_text, suffix=".csv"),
    ".tsv": partial(_write_text, suffix=".tsv"),
    ".jsonl": partial(_write_text, suffix=".jsonl"),
    ".parquet": _write_parquet,
    ".xlsx": _write_xlsx,
}
"""Suffix of a file -> a context manager that gives the function that writes one row."""
