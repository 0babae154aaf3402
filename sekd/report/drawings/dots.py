"""Rates with their intervals, a line each: dots with whiskers on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.analysis.estimates import Estimate
from sekd.report.drawings.svg import PHONE_WIDTH, Drawing, model_style, shorten
from sekd.report.formats import format_interval, format_number

_LEFT, _RIGHT = 124.0, PHONE_WIDTH - 16
_LANE_HEIGHT, _HEADING_HEIGHT, _TOP_MARGIN, _BOTTOM_MARGIN = 17.0, 24.0, 20.0, 24.0
_LABEL_LIMIT = 84.0  # percent: to the right of it a label would leave the chart


@dataclass(frozen=True)
class Lane:
    """Rates of models on one line; those of a control are drawn smaller, without their figures."""

    label: str
    rates: Mapping[str, Estimate]
    is_control: bool = False


def draw_dots(
    groups: Mapping[str, Sequence[Lane]], options_alone: float | None, alt: str
) -> Markup:
    """Draw groups of lanes below their headings, 0 to 100 percent.

    Args:
        options_alone: what the options give away without the image, drawn through all groups.
        alt: what the chart shows, for a screen reader; the figures are added.
    """
    content = sum(_HEADING_HEIGHT + _LANE_HEIGHT * len(lanes) for lanes in groups.values())
    height = _TOP_MARGIN + content + _BOTTOM_MARGIN
    drawing = Drawing(PHONE_WIDTH, height, f"{alt}. {_groups_as_text(groups)}")
    top, bottom = _TOP_MARGIN - 4, height - _BOTTOM_MARGIN + 4
    for tick in range(0, 101, 25):
        x = _rate_x(tick)
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, bottom + 14, f"{tick}", "tick", "middle")
    if options_alone is not None:
        x = _rate_x(options_alone)
        drawing.line(x, top, x, bottom, "floor")
        label = f"options alone {format_number(options_alone)}"
        drawing.text(x, top - 4, label, "tick", "start" if options_alone < 50 else "end")
    y = _TOP_MARGIN
    for name, lanes in groups.items():
        drawing.text(0, y + 13, name, "group")
        y += _HEADING_HEIGHT
        for lane in lanes:
            _draw_lane(drawing, lane, y + _LANE_HEIGHT / 2 - 4)
            y += _LANE_HEIGHT
    return drawing.markup()


def draw_strip(rate: Estimate, model: str) -> Markup:
    """Draw one rate as wide as a table's cell."""
    width, height = 96.0, 12.0
    drawing = Drawing(width, height, "")
    style, y = model_style(model), height / 2

    def x_of(value: float) -> float:
        return 5 + (width - 10) * value / 100

    drawing.line(x_of(0), y, x_of(100), y, "grid")
    drawing.line(x_of(rate.low), y, x_of(rate.high), y, f"whisker {style}")
    drawing.circle(x_of(rate.value), y, 3.5, f"dot {style}")
    return drawing.markup()


def _draw_lane(drawing: Drawing, lane: Lane, y: float) -> None:
    control_style = " control" if lane.is_control else ""
    radius = 3.0 if lane.is_control else 4.5
    drawing.text(_LEFT - 12, y + 4, shorten(lane.label, 16), f"lane{control_style}", "end")
    for model, rate in lane.rates.items():
        style = model_style(model) + control_style
        number = format_number(rate.value)
        drawing.line(_rate_x(rate.low), y, _rate_x(rate.high), y, f"whisker {style}")
        count = "" if rate.num_samples is None else f", n {rate.num_samples:,}"
        tip = f"{model}, {lane.label}: {number} % ({format_interval(rate)}){count}"
        drawing.circle(_rate_x(rate.value), y, radius, f"dot {style}", tip)
        if lane.is_control:
            continue
        if rate.high < _LABEL_LIMIT:
            drawing.text(_rate_x(rate.high) + 9, y + 4, number, f"value {style}")
        else:
            drawing.text(_rate_x(rate.low) - 9, y + 4, number, f"value {style}", "end")


def _rate_x(percent: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * percent / 100


def _groups_as_text(groups: Mapping[str, Sequence[Lane]]) -> str:
    sentences = []
    for name, lanes in groups.items():
        sentences.append(f"{name}: {'; '.join(map(_lane_as_text, lanes))}.")
    return " ".join(sentences)


def _lane_as_text(lane: Lane) -> str:
    rates = ", ".join(
        f"{model} {format_number(rate.value)} ({format_interval(rate)})"
        for model, rate in lane.rates.items()
    )
    return f"{lane.label}: {rates}" if lane.is_control else rates
