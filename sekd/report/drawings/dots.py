"""Rates with their intervals, a line each: dots with whiskers on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.analysis.metrics import Estimate
from sekd.report.drawings.svg import PHONE, Drawing, model_style, shorten
from sekd.report.formats import interval_text, number

_LEFT, _RIGHT = 124.0, PHONE - 16
_LANE, _HEADING, _TOP, _BELOW = 17.0, 24.0, 20.0, 24.0


@dataclass(frozen=True)
class Lane:
    """Rates of models on one line; those of a control are drawn smaller, without their figures."""

    label: str
    rates: Mapping[str, Estimate]
    is_control: bool = False


def dots(groups: Mapping[str, Sequence[Lane]], floor: float | None, alt: str) -> Markup:
    """Groups of lanes below their headings, 0 to 100 percent.

    Args:
        floor: what the options give away without the picture, drawn through all groups.
        alt: what the chart is of; the figures are added.
    """
    height = _TOP + sum(_HEADING + _LANE * len(lanes) for lanes in groups.values()) + _BELOW
    drawing = Drawing(PHONE, height, f"{alt}. {_tell(groups)}")
    bottom = height - _BELOW + 4
    for tick in range(0, 101, 25):
        drawing.line(_place(tick), _TOP - 4, _place(tick), bottom, "grid")
        drawing.text(_place(tick), bottom + 14, f"{tick}", "tick", "middle")
    if floor is not None:
        drawing.line(_place(floor), _TOP - 4, _place(floor), bottom, "floor")
        anchor = "start" if floor < 50 else "end"
        drawing.text(_place(floor), _TOP - 8, f"options alone {number(floor)}", "tick", anchor)
    y = _TOP
    for name, lanes in groups.items():
        drawing.text(0, y + 13, name, "group")
        y += _HEADING
        for lane in lanes:
            _draw(drawing, lane, y + _LANE / 2 - 4)
            y += _LANE
    return drawing.markup()


def strip(rate: Estimate, model: str) -> Markup:
    """The same for one rate, as wide as a table's cell."""
    width, height = 96.0, 12.0
    drawing = Drawing(width, height, "")
    style, y = model_style(model), height / 2

    def place(value: float) -> float:
        return 5 + (width - 10) * value / 100

    drawing.line(place(0), y, place(100), y, "grid")
    drawing.line(place(rate.low), y, place(rate.high), y, f"whisker {style}")
    drawing.circle(place(rate.value), y, 3.5, f"dot {style}")
    return drawing.markup()


def _draw(drawing: Drawing, lane: Lane, y: float) -> None:
    size = " control" if lane.is_control else ""
    drawing.text(_LEFT - 12, y + 4, shorten(lane.label, 16), f"lane{size}", "end")
    for model, rate in lane.rates.items():
        style = model_style(model) + size
        drawing.line(_place(rate.low), y, _place(rate.high), y, f"whisker {style}")
        tip = f"{model}, {lane.label}: {number(rate.value)} % ({interval_text(rate)})"
        drawing.circle(_place(rate.value), y, 3.0 if lane.is_control else 4.5, f"dot {style}", tip)
        if lane.is_control:
            continue
        if rate.high < 84:
            drawing.text(_place(rate.high) + 9, y + 4, number(rate.value), f"value {style}")
        else:
            drawing.text(_place(rate.low) - 9, y + 4, number(rate.value), f"value {style}", "end")


def _place(value: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * value / 100


def _tell(groups: Mapping[str, Sequence[Lane]]) -> str:
    def rates(lane: Lane) -> str:
        return ", ".join(
            f"{m} {number(r.value)} ({interval_text(r)})" for m, r in lane.rates.items()
        )

    return " ".join(
        f"{name}: "
        + "; ".join(f"{each.label}: " * each.is_control + rates(each) for each in lanes)
        + "."
        for name, lanes in groups.items()
    )
