"""Accuracy over confidence: on the diagonal, a model is as sure as it is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from markupsafe import Markup

from sekd.report.drawings.svg import Drawing
from sekd.report.formats import number

_SIZE, _LEFT, _TOP, _SIDE = 220.0, 34.0, 10.0, 176.0


class Bin(Protocol):
    """Answers of like confidence; confidence and accuracy in percent."""

    @property
    def confidence(self) -> float: ...  # noqa: D102

    @property
    def accuracy(self) -> float: ...  # noqa: D102

    @property
    def count(self) -> int: ...  # noqa: D102


def reliability(bins: Sequence[Bin], alt: str) -> Markup:
    """A dot per bin, its area the share of answers in it.

    Args:
        alt: what the chart is of; the figures are added.
    """
    told = ", ".join(
        f"confidence {number(b.confidence, 0)} accuracy {number(b.accuracy, 0)} ({b.count} answers)"
        for b in bins
    )
    drawing = Drawing(_SIZE, _SIZE + 10, f"{alt}. {told}.")
    for tick in (0, 50, 100):
        x, y = _place(tick, tick)
        drawing.line(_LEFT, y, _LEFT + _SIDE, y, "grid")
        drawing.line(x, _TOP, x, _TOP + _SIDE, "grid")
        drawing.text(_LEFT - 7, y + 4, f"{tick}", "tick", "end")
        drawing.text(x, _TOP + _SIDE + 15, f"{tick}", "tick", "middle")
    drawing.text(_LEFT + _SIDE / 2, _TOP + _SIDE + 30, "confidence, %", "tick", "middle")
    drawing.line(*_place(0, 0), *_place(100, 100), "diagonal")
    total = sum(each.count for each in bins)
    for each in bins:
        radius = 2.0 + 7.0 * (each.count / total) ** 0.5
        tip = f"{each.count} answers: confidence {number(each.confidence)}, "
        tip += f"accuracy {number(each.accuracy)}"
        drawing.circle(*_place(each.confidence, each.accuracy), radius, "dot reliable", tip)
    return drawing.markup()


def _place(confidence: float, accuracy: float) -> tuple[float, float]:
    return _LEFT + _SIDE * confidence / 100, _TOP + _SIDE * (1 - accuracy / 100)
