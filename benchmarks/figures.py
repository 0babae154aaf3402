"""A measured number and what it is held to; how a benchmark ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured number and what it is held to."""

    title: str
    value: float
    unit: str
    limit: float
    is_ceiling: bool = True

    @property
    def holds(self) -> bool:
        return self.value <= self.limit if self.is_ceiling else self.value >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.is_ceiling else ">="
        verdict = "ok" if self.holds else "FALLS SHORT"
        return f"{self.title:52} {self.value:9.3g} {self.unit:8} {sign} {self.limit:g}  {verdict}"


def finish(figures: Sequence[Figure], *, check: bool) -> None:
    """Print the figures, last, and leave; with ``check`` the exit code says whether all hold."""
    print(f"\n{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    print(*figures, sep="\n")
    sys.exit(check and not all(figure.holds for figure in figures))
