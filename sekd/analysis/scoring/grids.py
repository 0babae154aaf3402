"""A grid of samples and levels with the texts of a file, the same for every layout of files.

The layouts are read by :mod:`sekd.analysis.scoring.level_rows` and
:mod:`sekd.analysis.scoring.path_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from sekd.analysis.paths import BoolArray, IntArray
from sekd.analysis.scoring.files import CELL_COLUMNS
from sekd.io.columns import encode_column

EMPTY = -1
"""Stands instead of a text's number where there is no text."""
NO_ROW = -1
"""Stands instead of a row's number where there is no row."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TextGrid:
    """The texts of N samples at L levels, each text as a number.

    A sample id that occurs in two cells makes two samples.

    Attributes:
        sample_ids: of the N samples.
        cells: the distinct values of the cell columns, by column.
        cell: int64[N], index in ``cells``.
        row: int64[N, L], the file's row, from 0; ``NO_ROW`` where there is none.
        last_row: int64[N], the last of each sample's rows, the root's included.
        truth: int64[N, L], index in ``texts``, or ``EMPTY``.
        prediction: int64[N, L], index in ``texts``, or ``EMPTY``.
        texts: distinct texts, none of them empty.
        hint: ends the message about an unknown truth that has no near match.
        first_level: the level of the first column.
        has_leaf_answers: bool[N], the prediction is written as a leaf alone.
    """

    sample_ids: pa.StringArray
    cells: Sequence[Mapping[str, str]]
    cell: IntArray
    row: IntArray
    last_row: IntArray
    truth: IntArray
    prediction: IntArray
    texts: Sequence[str]
    hint: str = ""
    first_level: int = 0
    has_leaf_answers: BoolArray | None = None

    def describe(self, numbers: IntArray, sample: int, column: int) -> str:
        """Describe a text for a message. ``numbers`` is ``truth`` or ``prediction``."""
        return f"{self.texts[numbers[sample, column]]!r} at level {column + self.first_level}"

    def below_root(self) -> TextGrid:
        """Return this grid, whose first column is the root's, without that column."""
        return replace(
            self,
            row=self.row[:, 1:],
            truth=self.truth[:, 1:],
            prediction=self.prediction[:, 1:],
            first_level=1,
        )


@dataclass
class TextNumbers:
    """Numbers distinct texts, from 0. The space around a text does not count.

    Attributes:
        is_missing: tells which texts stand for no text.
    """

    is_missing: Callable[[str], bool]
    number_of: dict[str, int] = field(default_factory=dict)

    def number(self, text: str | None) -> int:
        """Return the number of a text, ``EMPTY`` for one that is null or blank."""
        stripped = (text or "").strip()
        if not stripped or self.is_missing(stripped):
            return EMPTY
        return self.number_of.setdefault(stripped, len(self.number_of))

    def encode(self, column: pa.ChunkedArray) -> IntArray:
        """Return the number of each row's text, int64[R]."""
        codes, values = encode_column(column)
        number_of_code = [self.number(text) for text in values.to_pylist()]
        number_of_code.append(EMPTY)  # for the code -1 of a null
        return np.array(number_of_code, dtype=np.int64)[codes]

    @property
    def texts(self) -> list[str]:
        """The texts in the order of their numbers."""
        return list(self.number_of)


def encode_cells(table: pa.Table) -> tuple[list[dict[str, str]], IntArray]:
    """Find the cells of a table: the distinct values of its cell columns.

    Returns:
        The cells in order of appearance, with an empty text for null; and int64[R], the index of
        each row's cell.
    """
    columns = [name for name in CELL_COLUMNS if name in table.column_names]
    combined = np.zeros(len(table), dtype=np.int64)  # one number for all columns of a row
    for name in columns:
        codes, values = encode_column(table[name])
        combined = combined * (len(values) + 1) + codes + 1  # the code of a null is -1
    _, first_rows, sorted_cell = np.unique(combined, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first_rows)
    index_of_sorted = np.empty_like(by_appearance)
    index_of_sorted[by_appearance] = np.arange(len(by_appearance))
    cells = [
        {name: table[name][row].as_py() or "" for name in columns}
        for row in first_rows[by_appearance].tolist()
    ]
    return cells, index_of_sorted[sorted_cell]
