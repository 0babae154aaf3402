"""Faults of a file of predictions, counted by kind and listed with their lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sekd.analysis.paths import BoolArray, IntArray
from sekd.errors import ConfigError

_NUM_LISTED = 3


class Faults:
    """Kinds of faults of a file. Each kind is counted, and its first few places are listed.

    Args:
        place_rows: names the rows of the file with these numbers.

    Attributes:
        lines: a text per kind, for a person.
    """

    def __init__(self, path: Path, place_rows: Callable[[Sequence[int]], list[str]]) -> None:
        self._path = path
        self._place_rows = place_rows
        self.lines: list[str] = []

    def add(
        self,
        kind: str,
        rows: IntArray,
        is_fault: BoolArray,
        describe: Callable[..., str] | None = None,
    ) -> None:
        """Count the faults of one kind; there may be none.

        Args:
            kind: what the faulty entries are, in the plural.
            rows: the file's row of each entry, from 0.
            is_fault: tells which entries are faulty; of the shape of ``rows``.
            describe: makes the text that is shown of an entry from its indices.
        """
        entries = np.argwhere(is_fault)
        if not len(entries):
            return
        fault_rows = rows[is_fault]  # in the order of the entries
        first = np.argsort(fault_rows, kind="stable")[:_NUM_LISTED]
        listed = self._place_rows(fault_rows[first].tolist())
        if describe is not None:
            texts = [describe(*entry) for entry in entries[first].tolist()]
            listed = [f"{place}: {text}" for place, text in zip(listed, texts, strict=True)]
        num_more = len(entries) - len(listed)
        more = f" and {num_more:,} more" if num_more else ""
        self.lines.append(f"{kind}: {len(entries):,} ({'; '.join(listed)}{more})")

    def refuse(self) -> None:
        """Raise a ConfigError that lists the faults of all kinds, if there are any."""
        if self.lines:
            raise ConfigError(f"{self._path}: {'; '.join(self.lines)}")
