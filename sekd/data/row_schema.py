"""Dataclasses whose objects are rows of a Parquet file: each field declares its column.

A file's schema, how its rows are written and how they are read all follow from the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, field, fields
from functools import cache
from typing import Any, TypeVar

import pyarrow as pa

Row = TypeVar("Row")


def column(
    kind: pa.DataType,
    *,
    nullable: bool = False,
    read: Callable[[Any], Any] | None = None,
    default: Any = MISSING,
) -> Any:
    """Declare a field of a dataclass as a column.

    Args:
        kind: type of the column on disk.
        read: turns a cell, as Arrow gives it to Python, into the field's value; a cell that is null
            stays ``None``.
        default: of the field.
    """
    metadata = {"column": kind, "nullable": nullable, "read": read}
    return field(default=default, metadata=metadata)


def schema_of(
    row_class: type, *, derived: Mapping[str, pa.DataType] | None = None, before: str | None = None
) -> pa.Schema:
    """Return the schema of the files that hold rows of a class.

    Args:
        derived: properties of the class that are written as columns, too, for readers of the file;
            name -> type.
        before: the column before which the derived ones stand; they are the last ones without it.
    """
    extra = [pa.field(name, kind, nullable=False) for name, kind in (derived or {}).items()]
    columns = []
    for declared in fields(row_class):
        if declared.name == before:
            columns += extra
        kind, nullable = declared.metadata["column"], declared.metadata["nullable"]
        columns.append(pa.field(declared.name, kind, nullable=nullable))
    return pa.schema(columns if before else [*columns, *extra])


def table_of(rows: Iterable[object], schema: pa.Schema) -> pa.Table:
    """Return rows as a table of the schema of their class."""
    cells = [{name: getattr(row, name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(cells, schema)


def row_of(row_class: type[Row], cells: Mapping[str, Any]) -> Row:
    """Return a row from its cells, column -> value as ``pa.Table.to_pylist`` gives it."""
    values = {}
    for name, read in _readers(row_class):  # type: ignore[arg-type]  # mypy: no class is hashable
        value = cells[name]
        values[name] = value if read is None or value is None else read(value)
    return row_class(**values)


@cache
def _readers(row_class: type) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """List the fields of a class and how each one's cells are read: looked up once, not per row."""
    return [(declared.name, declared.metadata["read"]) for declared in fields(row_class)]
