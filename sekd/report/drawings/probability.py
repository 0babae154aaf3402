"""Draw a probability as a bar."""

from __future__ import annotations

from markupsafe import Markup

from sekd.report.drawings.svg import Drawing

_WIDTH, _HEIGHT = 100.0, 10.0


def draw_probability(probability: float, threshold: float = 0.0) -> Markup:
    """Draw a bar on a track from 0 to 1, which stands beside its figure and so has no text.

    Args:
        probability: 0 to 1.
        threshold: where a line crosses the track; 0 draws none.
    """
    drawing = Drawing(_WIDTH, _HEIGHT, "")
    drawing.rect(0, 1, _WIDTH, _HEIGHT - 2, "track")
    drawing.rect(0, 1, probability * _WIDTH, _HEIGHT - 2, "probability")
    if threshold:
        drawing.line(threshold * _WIDTH, 0, threshold * _WIDTH, _HEIGHT, "threshold")
    return drawing.markup()
