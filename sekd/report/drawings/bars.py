"""Draw shares of a whole, with one bar for each whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.report.drawings.svg import PHONE_WIDTH, Drawing, shorten
from sekd.report.formats import format_number

_LEFT, _ROW_HEIGHT, _BAR_HEIGHT = 140.0, 26.0, 18.0
_WIDTH_PER_PERCENT = (PHONE_WIDTH - _LEFT) / 100
_MIN_LABELLED_WIDTH = 22.0


@dataclass(frozen=True)
class Segment:
    """One share; ``style`` is the CSS class of its colour."""

    percent: float
    name: str
    style: str


def draw_bars(rows: Mapping[str, Sequence[Segment]], alt: str) -> Markup:
    """Draw a bar per row, its segments left to right; a segment that has room shows its figure.

    Args:
        alt: what the chart shows, for a screen reader; the figures are added.
    """
    drawing = Drawing(PHONE_WIDTH, _ROW_HEIGHT * len(rows) + 2, f"{alt}. {_bars_as_text(rows)}")
    for index, (name, segments) in enumerate(rows.items()):
        y, x = _ROW_HEIGHT * index + 4, _LEFT
        drawing.text(_LEFT - 10, y + _BAR_HEIGHT / 2 + 4, shorten(name, 20), "lane", "end")
        for segment in segments:
            width = segment.percent * _WIDTH_PER_PERCENT
            tip = f"{segment.name}: {format_number(segment.percent)} %"
            drawing.rect(x, y, max(width - 1, 0), _BAR_HEIGHT, f"share {segment.style}", tip)
            if width >= _MIN_LABELLED_WIDTH:
                label = format_number(segment.percent, 0)
                drawing.text(x + width / 2, y + 13, label, f"inside {segment.style}", "middle")
            x += width
    return drawing.markup()


def _bars_as_text(rows: Mapping[str, Sequence[Segment]]) -> str:
    sentences = []
    for name, segments in rows.items():
        shares = (f"{segment.name} {format_number(segment.percent)}" for segment in segments)
        sentences.append(f"{name}: {', '.join(shares)}.")
    return " ".join(sentences)
