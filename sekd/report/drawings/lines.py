"""Rates over levels: a line per series, told apart by shape and label as well as by colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.analysis.metrics import Estimate
from sekd.report.drawings.svg import PHONE, Drawing, shorten
from sekd.report.formats import number

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 30.0, PHONE - 134, 10.0, 170.0, 206.0
_LABEL_GAP, _LETTER = 14.0, 6.2
_SHAPES = {"joint": "circle", "independent": "square", "conditioned": "triangle",
           "right": "circle", "wrong": "square"}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One line; ``style`` is the CSS class of its colour."""

    name: str
    style: str
    points: Mapping[int, Estimate]


def lines(series: Sequence[Series], names: Mapping[int, str], alt: str) -> Markup:
    """Lines over the levels that ``names`` names, 0 to 100 percent.

    Args:
        alt: what the chart is of; the figures are added.
    """
    series = [each for each in series if each.points]
    drawing = Drawing(PHONE, _HEIGHT, f"{alt}. {_tell(series, names)}")
    for tick in range(0, 101, 25):
        drawing.line(_LEFT, _height(tick), _RIGHT, _height(tick), "grid")
        drawing.text(_LEFT - 7, _height(tick) + 4, f"{tick}", "tick", "end")
    gap = (_RIGHT - _LEFT - 16) / max(len(names) - 1, 1)
    places = {level: _LEFT + 8 + gap * index for index, level in enumerate(names)}
    room = int(gap / _LETTER)
    num_lines = 1 if all(len(name) <= room for name in names.values()) else 2
    for index, (level, name) in enumerate(names.items()):
        y = _BOTTOM + 17 + 13 * (index % num_lines)  # neighbours that would touch stand below
        drawing.text(places[level], y, shorten(name, num_lines * room), "tick", "middle")
    for each in series:
        style = f"s-{each.style}"
        at = {level: (places[level], _height(rate.value)) for level, rate in each.points.items()}
        for level, rate in each.points.items():
            x = places[level]
            drawing.line(x, _height(rate.low), x, _height(rate.high), f"whisker {style}")
        drawing.polyline(list(at.values()), f"course {style}")
        for level, (x, y) in at.items():
            tip = f"{each.name}, {names[level]}: {number(each.points[level].value)} %"
            drawing.mark(_SHAPES.get(each.style, "circle"), x, y, f"dot {style}", tip)
    _label(drawing, series)
    return drawing.markup()


def _label(drawing: Drawing, series: Sequence[Series]) -> None:
    """Name and last figure behind each line's end, moved apart where lines end together."""
    ends = {each.name: _height(each.points[max(each.points)].value) for each in series}
    y = -_LABEL_GAP
    for each in sorted(series, key=lambda each: ends[each.name]):
        y = max(ends[each.name], y + _LABEL_GAP)
        last = number(each.points[max(each.points)].value)
        drawing.text(_RIGHT + 10, y + 4, f"{each.name} {last}", f"value s-{each.style}")


def _height(value: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * value / 100


def _tell(series: Sequence[Series], names: Mapping[int, str]) -> str:
    return " ".join(
        f"{each.name}: "
        + ", ".join(f"{names[level]} {number(r.value)}" for level, r in each.points.items())
        + "."
        for each in series
    )
