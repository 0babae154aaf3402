"""A table, before it is written in any format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeAlias

from sekd.analysis.estimates import Estimate

Value: TypeAlias = str | int | float | Estimate | None
"""An int is shown as a whole number, a float and an Estimate with the digits of their column."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name for a machine, as ``metrics.json`` has it.
        heading: its name for a person.
        has_interval: a person is shown the interval too; a machine always is.
        digits: the number of digits after the point.
        interval_digits: the same for the ends of an interval.
        is_significant: both count significant digits instead.
        is_signed: a plus sign is shown too.
        is_probability: a value that is too small for the digits is shown as such, never as zero.
        is_text: the column is aligned to the left, as names are.
        labels: what a person is shown instead of a text.
    """

    key: str
    heading: str
    has_interval: bool = False
    digits: int = 1
    interval_digits: int = 1
    is_significant: bool = False
    is_signed: bool = False
    is_probability: bool = False
    is_text: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: the name of its files.
        title: one line; units included.
        num_names: the number of first columns that say what a row is about.
        groups: the number of rows in each group of rows that belong together.
        note: a sentence below the table, for a person; empty where there is nothing to say.
    """

    name: str
    title: str
    columns: Sequence[Column]
    num_names: int
    rows: Sequence[Sequence[Value]]
    groups: Sequence[int]
    note: str = ""

    @property
    def has_figures(self) -> bool:
        """There is a row, and a column beside those of names."""
        return bool(self.rows) and len(self.columns) > self.num_names

    @property
    def grouped_rows(self) -> Iterator[Sequence[Sequence[Value]]]:
        """The rows of each group."""
        start = 0
        for size in self.groups:
            yield self.rows[start : start + size]
            start += size

    def is_left_aligned(self, index: int) -> bool:
        """Tell whether a column holds names or other text."""
        return index < self.num_names or self.columns[index].is_text

    def without_empty_columns(self) -> Table:
        """Return the table without the columns that no row fills."""
        kept = [
            index
            for index in range(len(self.columns))
            if any(row[index] not in (None, "") for row in self.rows)
        ]
        return replace(
            self,
            columns=[self.columns[index] for index in kept],
            num_names=sum(index < self.num_names for index in kept),
            rows=[[row[index] for index in kept] for row in self.rows],
        )


def count_groups(keys: Iterable[object]) -> list[int]:
    """Return the number of rows in each run of rows with the same key."""
    return [len(list(run)) for _, run in groupby(keys)]
