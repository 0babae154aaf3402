"""Find the rows of a table in a JSON document, in the shapes in which programs write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sekd.errors import ConfigError


def rows_of_json(content: Any, path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a parsed JSON document.

    Its shape is a list of objects; an object of columns, which are lists of one length or objects
    by index (``DataFrame.to_json``); an object with ``columns`` and ``data``; or an object with one
    list of objects among its entries, whose other entries are left out.

    Raises:
        ConfigError: if it has another shape, or a row is no object.
    """
    if isinstance(content, list):
        for number, row in enumerate(content, start=1):
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise ConfigError(f"{path}, row {number}: expected an object, got {kind}")
            yield row
        return
    if isinstance(content, dict):
        if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):
            for values in content["data"]:
                yield dict(zip(content["columns"], values, strict=True))
            return
        lists_of_rows = [value for value in content.values() if _is_list_of_objects(value)]
        if len(lists_of_rows) == 1:
            yield from lists_of_rows[0]
            return
        columns = _as_columns(content)
        if columns:
            for cells in zip(*columns.values(), strict=True):
                yield dict(zip(columns, cells, strict=True))
            return
    raise ConfigError(
        f"{path}: no table: give a list of objects, or an object of columns of one length"
    )


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _as_columns(content: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the columns of an object of columns; none if it is no such object."""
    columns = {}
    indices = None
    for name, column in content.items():
        if isinstance(column, dict):
            if indices is not None and list(column) != indices:
                return {}
            indices = list(column)
            columns[name] = list(column.values())
        elif isinstance(column, list):
            columns[name] = column
        else:
            return {}
    return columns if len({len(column) for column in columns.values()}) == 1 else {}
