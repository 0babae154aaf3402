"""Some rows of a table as Python values, and where each of them stands in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from sekd.errors import ConfigError

ABSENT: Any = object()
"""Stands in a chunk where a JSONL row does not have the column."""


@dataclass(frozen=True)
class TableChunk:
    """Some consecutive rows of a table, as columns.

    Attributes:
        path: of the table.
        numbers: the number of each row's line (CSV, JSONL) or row (Parquet), from 1.
        columns: name -> cells, all columns of one length.
        faults: index of a row that cannot be parsed, though it is well formed -> why. It has no
            cells. A number of thousands of digits and nesting without end are such faults.
    """

    path: Path
    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    faults: Mapping[int, str] = field(default_factory=dict)

    def place(self, index: int) -> str:
        """Return where a row of this chunk stands, for messages."""
        return row_place(self.path, self.numbers[index])

    def row(self, index: int) -> dict[str, Any]:
        """Return the cells that a row has, by column."""
        cells = {name: column[index] for name, column in self.columns.items()}
        return {name: cell for name, cell in cells.items() if cell is not ABSENT}

    def select(self, mask: Sequence[bool]) -> TableChunk:
        """Return the rows for which ``mask`` is true."""
        columns = {name: list(compress(column, mask)) for name, column in self.columns.items()}
        rows = list(compress(range(len(mask)), mask))
        faults = {new: self.faults[old] for new, old in enumerate(rows) if old in self.faults}
        return TableChunk(self.path, [self.numbers[row] for row in rows], columns, faults)

    def texts(self, name: str, *, is_optional: bool = False) -> list[str]:
        """Return a column's texts without the space around them; a null is an empty text.

        Whole numbers, which are common as ids, become text.

        Args:
            is_optional: take a column that is absent as empty.

        Raises:
            ConfigError: if the column is absent, or a cell is neither text nor a whole number.
        """
        cells = self.columns.get(name, [ABSENT] * len(self.numbers))
        if set(map(type, cells)) <= {str}:
            return [cell.strip() for cell in cells]
        return [self._text(name, index, cell, is_optional) for index, cell in enumerate(cells)]

    def filled_texts(self, name: str) -> list[str]:
        """Return a column's texts as :meth:`texts` does, and refuse an empty one."""
        texts = self.texts(name)
        if not all(texts):
            raise ConfigError(f"{self.place(texts.index(''))}: the column {name!r} is empty")
        return texts

    def _text(self, name: str, index: int, cell: Any, is_optional: bool) -> str:
        if cell is ABSENT and not is_optional:
            names = ", ".join(self.row(index))
            raise ConfigError(f"{self.place(index)}: no column {name!r}; there are {names}")
        if cell is None or cell is ABSENT:
            return ""
        if isinstance(cell, bool) or not isinstance(cell, (str, int)):
            raise ConfigError(
                f"{self.place(index)}: {name} must be text, not {type(cell).__name__}"
            )
        return str(cell).strip()


def row_place(path: Path, number: int) -> str:
    """Name a row in a message: ``birds.csv, line 7`` or ``birds.parquet, row 7``."""
    return f"{path}, {row_unit(path)} {number}"


def row_unit(path: Path) -> str:
    """Tell what the number of a row counts: a ``line`` of a text, else a ``row``."""
    return "line" if path.suffix in (".csv", ".tsv", ".txt", ".jsonl", ".ndjson") else "row"
