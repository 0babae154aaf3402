"""Accuracy over confidence: on the diagonal, a model is as sure as it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.report.drawings.svg import Drawing
from sekd.report.formats import format_number

_SIZE, _LEFT, _TOP, _SIDE = 220.0, 34.0, 10.0, 176.0


@dataclass(frozen=True)
class ReliabilityDot:
    """Answers of like confidence; confidence and accuracy in percent."""

    confidence: float
    accuracy: float
    num_answers: int


def draw_reliability(dots: Sequence[ReliabilityDot], alt: str) -> Markup:
    """Draw dots whose area is their share of the answers.

    Args:
        alt: what the chart shows, for a screen reader; the figures are added.
    """
    drawing = Drawing(_SIZE, _SIZE + 10, f"{alt}. {', '.join(map(_dot_as_text, dots))}.")
    for tick in (0, 50, 100):
        x, y = _dot_position(tick, tick)
        drawing.line(_LEFT, y, _LEFT + _SIDE, y, "grid")
        drawing.line(x, _TOP, x, _TOP + _SIDE, "grid")
        drawing.text(_LEFT - 7, y + 4, f"{tick}", "tick", "end")
        drawing.text(x, _TOP + _SIDE + 15, f"{tick}", "tick", "middle")
    drawing.text(_LEFT + _SIDE / 2, _TOP + _SIDE + 30, "confidence, %", "tick", "middle")
    drawing.line(*_dot_position(0, 0), *_dot_position(100, 100), "diagonal")
    num_answers = sum(dot.num_answers for dot in dots)
    for dot in dots:
        x, y = _dot_position(dot.confidence, dot.accuracy)
        radius = 2.0 + 7.0 * (dot.num_answers / num_answers) ** 0.5
        tip = (
            f"{dot.num_answers} answers: confidence {format_number(dot.confidence)}, "
            f"accuracy {format_number(dot.accuracy)}"
        )
        drawing.circle(x, y, radius, "dot reliable", tip)
    return drawing.markup()


def _dot_position(confidence: float, accuracy: float) -> tuple[float, float]:
    return _LEFT + _SIDE * confidence / 100, _TOP + _SIDE * (1 - accuracy / 100)


def _dot_as_text(dot: ReliabilityDot) -> str:
    return (
        f"confidence {format_number(dot.confidence, 0)} accuracy {format_number(dot.accuracy, 0)} "
        f"({dot.num_answers} answers)"
    )
