"""Rates over levels: a line per series, told apart by shape and label as well as by colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.analysis.estimates import Estimate, Levels
from sekd.report.drawings.svg import PHONE_WIDTH, Drawing, shorten
from sekd.report.formats import format_number

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 30.0, PHONE_WIDTH - 134, 10.0, 170.0, 206.0
_LABEL_GAP, _LETTER_WIDTH = 14.0, 6.2
_SHAPES = {
    "joint": "circle",
    "joint_forced": "diamond",
    "independent": "square",
    "conditioned": "triangle",
    "open": "diamond",
    "right": "circle",
    "wrong": "square",
}


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        style: the CSS class of its colour.
        shows_counts: the number of samples is written at every point, because it differs.
    """

    name: str
    style: str
    points: Levels
    shows_counts: bool = False


def draw_lines(series: Sequence[Series], names: Mapping[int, str], alt: str) -> Markup:
    """Draw lines over the levels that ``names`` names, 0 to 100 percent.

    Args:
        alt: what the chart shows, for a screen reader; the figures are added.
    """
    series = [line for line in series if line.points]
    drawing = Drawing(PHONE_WIDTH, _HEIGHT, f"{alt}. {_series_as_text(series, names)}")
    for tick in range(0, 101, 25):
        drawing.line(_LEFT, _rate_y(tick), _RIGHT, _rate_y(tick), "grid")
        drawing.text(_LEFT - 7, _rate_y(tick) + 4, f"{tick}", "tick", "end")
    gap = (_RIGHT - _LEFT - 16) / max(len(names) - 1, 1)
    level_x = {level: _LEFT + 8 + gap * index for index, level in enumerate(names)}
    _label_levels(drawing, names, level_x, gap)
    for line in series:
        _draw_series(drawing, line, names, level_x)
    _label_line_ends(drawing, series)
    return drawing.markup()


def _label_levels(
    drawing: Drawing, names: Mapping[int, str], level_x: Mapping[int, float], gap: float
) -> None:
    """Write the levels' names below the axis, on two lines if neighbours would touch."""
    num_letters = int(gap / _LETTER_WIDTH)
    num_lines = 1 if all(len(name) <= num_letters for name in names.values()) else 2
    for index, (level, name) in enumerate(names.items()):
        y = _BOTTOM + 17 + 13 * (index % num_lines)
        drawing.text(level_x[level], y, shorten(name, num_lines * num_letters), "tick", "middle")


def _draw_series(
    drawing: Drawing, line: Series, names: Mapping[int, str], level_x: Mapping[int, float]
) -> None:
    style = f"s-{line.style}"
    shape = _SHAPES.get(line.style, "circle")
    for level, rate in line.points.items():
        x = level_x[level]
        drawing.line(x, _rate_y(rate.low), x, _rate_y(rate.high), f"whisker {style}")
    points = [(level_x[level], _rate_y(rate.value)) for level, rate in line.points.items()]
    drawing.polyline(points, f"course {style}")
    for (x, y), (level, rate) in zip(points, line.points.items(), strict=True):
        count = "" if rate.num_samples is None else f" of n = {rate.num_samples:,}"
        tip = f"{line.name}, {names[level]}: {format_number(rate.value)} %{count}"
        drawing.mark(shape, x, y, f"dot {style}", tip)
        if line.shows_counts and rate.num_samples is not None:
            # Above the point, or below it where it is near the top of the chart.
            dy = -9.0 if y > _TOP + 16 else 17.0
            drawing.text(x, y + dy, f"n {rate.num_samples:,}", f"count {style}", "middle")


def _label_line_ends(drawing: Drawing, series: Sequence[Series]) -> None:
    """Write name and last figure behind each line's end, apart where lines end together."""
    last = {line.name: line.points[max(line.points)].value for line in series}
    y = -_LABEL_GAP
    for line in sorted(series, key=lambda line: _rate_y(last[line.name])):
        y = max(_rate_y(last[line.name]), y + _LABEL_GAP)
        label = f"{line.name} {format_number(last[line.name])}"
        drawing.text(_RIGHT + 10, y + 4, label, f"value s-{line.style}")


def _rate_y(percent: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * percent / 100


def _series_as_text(series: Sequence[Series], names: Mapping[int, str]) -> str:
    sentences = []
    for line in series:
        points = (
            f"{names[level]} {format_number(rate.value)}{_count_as_text(line, rate)}"
            for level, rate in line.points.items()
        )
        sentences.append(f"{line.name}: {', '.join(points)}.")
    return " ".join(sentences)


def _count_as_text(line: Series, rate: Estimate) -> str:
    return f" (n {rate.num_samples:,})" if line.shows_counts and rate.num_samples else ""
