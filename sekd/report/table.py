"""What a table of the report is, before it is written in any format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import TypeAlias

from sekd.analysis.metrics import Estimate

Value: TypeAlias = str | int | float | Estimate | None


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name for a machine, as ``metrics.json`` has it.
        heading: its name for a person.
        has_interval: a person is shown the interval too; a machine always is.
        digits: after the point.
        is_signed: a plus is shown too.
        is_probability: one too small for the digits is shown as such, never as zero.
        labels: what a person is shown for a text.
    """

    key: str
    heading: str
    has_interval: bool = False
    digits: int = 1
    is_signed: bool = False
    is_probability: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table; its first ``num_names`` columns say what a row is about.

    Attributes:
        name: of its files.
        title: one line; units included.
        groups: number of rows in each group of rows that belong together.
    """

    name: str
    title: str
    columns: Sequence[Column]
    num_names: int
    rows: Sequence[Sequence[Value]]
    groups: Sequence[int]

    @property
    def has_figures(self) -> bool:
        """Whether there is anything beside names."""
        return bool(self.rows) and len(self.columns) > self.num_names

    @property
    def grouped(self) -> Iterator[Sequence[Sequence[Value]]]:
        """The rows of each group."""
        rows = iter(self.rows)
        for size in self.groups:
            yield list(islice(rows, size))

    @property
    def control(self) -> int | None:
        """Index of the column that names a row's control, if there is one."""
        keys = [column.key for column in self.columns]
        return keys.index("control") if "control" in keys else None

    def shrunk(self) -> Table:
        """Without the columns that no row fills."""
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


def group_sizes(groups: Iterable[object]) -> list[int]:
    """How many rows in a row are of one group."""
    return [len(list(each)) for _, each in groupby(groups)]
