"""Accuracy over coverage: a line for each level, from the most confident answers to all of them."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from sekd.analysis.selective import SelectiveCurve, SelectivePoint
from sekd.report.drawings.svg import PHONE_WIDTH, Drawing, shorten
from sekd.report.formats import format_number

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 30.0, PHONE_WIDTH - 124, 10.0, 170.0, 206.0
_LABEL_GAP, _LABEL_LETTERS = 14.0, 16


def draw_coverage(curves: Mapping[str, tuple[str, SelectiveCurve]], alt: str) -> Markup:
    """Draw accuracy over coverage, 0 to 100 percent.

    Args:
        curves: name of a level -> the CSS class of its colour, and its curve.
        alt: what the chart shows, for a screen reader; the figures are added.
    """
    texts = [f"{name}: {_curve_as_text(curve)}." for name, (_, curve) in curves.items()]
    drawing = Drawing(PHONE_WIDTH, _HEIGHT, f"{alt}. {' '.join(texts)}")
    for tick in range(0, 101, 25):
        drawing.line(_LEFT, _y(tick), _RIGHT, _y(tick), "grid")
        drawing.text(_LEFT - 7, _y(tick) + 4, f"{tick}", "tick", "end")
        drawing.text(_x(tick), _BOTTOM + 16, f"{tick}", "tick", "middle")
    drawing.text((_LEFT + _RIGHT) / 2, _BOTTOM + 31, "coverage, %", "tick", "middle")
    for name, (style, curve) in curves.items():
        points = [(_x(point.coverage), _y(point.accuracy)) for point in curve.points]
        drawing.polyline(points, f"course s-{style}")
        for (x, y), point in zip(points, curve.points, strict=True):
            drawing.circle(x, y, 2.2, f"dot s-{style}", f"{name}, {_point_as_text(point)}")
    y = -_LABEL_GAP
    for name, (style, curve) in sorted(
        curves.items(), key=lambda entry: -entry[1][1].points[-1].accuracy
    ):
        last = curve.points[-1].accuracy
        y = max(_y(last), y + _LABEL_GAP)
        label = f"{shorten(name, _LABEL_LETTERS)} {format_number(last)}"
        drawing.text(_RIGHT + 10, y + 4, label, f"value s-{style}")
    return drawing.markup()


def _x(percent: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * percent / 100


def _y(percent: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * percent / 100


def _curve_as_text(curve: SelectiveCurve) -> str:
    return ", ".join(map(_point_as_text, curve.points))


def _point_as_text(point: SelectivePoint) -> str:
    return (
        f"confidence {format_number(point.threshold)} or more: accuracy "
        f"{format_number(point.accuracy)} at coverage {format_number(point.coverage)}"
    )
