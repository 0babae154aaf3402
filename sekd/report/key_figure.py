"""A figure of the first screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sekd.report.changes import ChangeVerdict


@dataclass(frozen=True, kw_only=True)
class KeyFigure:
    """One figure of the first screen.

    Attributes:
        title: one word.
        value: the figure itself.
        unit: the unit of the figure.
        meaning: what the figure means.
        evidence: its interval.
        details: the same of other datasets or cells, a line each.
        caution: what a reader must know to read it right.
        verdict: decides about its colour.
    """

    title: str
    value: str
    unit: str
    meaning: str
    evidence: str = ""
    details: Sequence[str] = ()
    caution: str = ""
    verdict: ChangeVerdict = "noise"
