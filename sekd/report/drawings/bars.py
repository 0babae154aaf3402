"""Shares of a whole, a bar each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.report.drawings.svg import PHONE, Drawing, shorten
from sekd.report.formats import number

_LEFT, _ROW, _BAR = 140.0, 26.0, 18.0
_PER_PERCENT = (PHONE - _LEFT) / 100


@dataclass(frozen=True)
class Segment:
    """One share; ``style`` is the CSS class of its colour."""

    percent: float
    name: str
    style: str


def bars(rows: Mapping[str, Sequence[Segment]], alt: str) -> Markup:
    """A bar per row, its segments left to right; a segment that has room shows its figure.

    Args:
        alt: what the chart is of; the figures are added.
    """
    told = " ".join(
        f"{name}: " + ", ".join(f"{s.name} {number(s.percent)}" for s in segments) + "."
        for name, segments in rows.items()
    )
    drawing = Drawing(PHONE, _ROW * len(rows) + 2, f"{alt}. {told}")
    for index, (name, segments) in enumerate(rows.items()):
        y, x = _ROW * index + 4, _LEFT
        drawing.text(_LEFT - 10, y + _BAR / 2 + 4, shorten(name, 20), "lane", "end")
        for segment in segments:
            width = segment.percent * _PER_PERCENT
            tip = f"{segment.name}: {number(segment.percent)} %"
            drawing.rect(x, y, max(width - 1, 0), _BAR, f"share {segment.style}", tip)
            if width >= 22:
                label = number(segment.percent, 0)
                drawing.text(x + width / 2, y + 13, label, f"inside {segment.style}", "middle")
            x += width
    return drawing.markup()
