"""Drawings as inline SVG, escaped by the XML library; colours are CSS classes of ``page.css``.

These small drawings are not made by a plotting library, whose SVG has colours and fonts baked in:
here text stays text, and colours follow the page's theme.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from markupsafe import Markup

PHONE_WIDTH = 360.0
"""Width of most drawings: that of a phone's column, where their text has its natural size."""


class Drawing:
    """An SVG of a fixed shape that scales with its column.

    Args:
        width, height: in the units of all coordinates, one pixel at natural size.
        alt: everything that it shows, as text for a screen reader; empty for a decoration, which
            is hidden from one.
    """

    def __init__(self, width: float, height: float, alt: str) -> None:
        label = {"role": "img", "aria-label": alt} if alt else {"aria-hidden": "true"}
        self._root = ET.Element(
            "svg", {"viewBox": f"0 0 {width:g} {height:g}", **label, "class": "chart"}
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """Draw a straight line."""
        self._add("line", style, x1=x1, y1=y1, x2=x2, y2=y2)

    def polyline(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Draw a line through points."""
        self._add("polyline", style).set("points", " ".join(f"{x:.1f},{y:.1f}" for x, y in points))

    def rect(
        self, x: float, y: float, width: float, height: float, style: str, tip: str = ""
    ) -> None:
        """Draw a rectangle; ``tip`` is shown when the mouse rests on it."""
        self._add_tip(self._add("rect", style, x=x, y=y, width=width, height=height), tip)

    def circle(self, x: float, y: float, r: float, style: str, tip: str = "") -> None:
        """Draw a dot."""
        self._add_tip(self._add("circle", style, cx=x, cy=y, r=r), tip)

    def mark(self, shape: str, x: float, y: float, style: str, tip: str = "") -> None:
        """Draw a dot of one of several shapes, so that colour alone tells no series apart."""
        r = 4.0
        if shape == "square":
            self.rect(x - r + 0.5, y - r + 0.5, 2 * r - 1, 2 * r - 1, style, tip)
        elif shape == "triangle":
            corners = ((x, y - r - 0.5), (x + r + 0.5, y + r - 0.5), (x - r - 0.5, y + r - 0.5))
            self._polygon(corners, style, tip)
        elif shape == "diamond":
            half = r + 1.0
            self._polygon(((x, y - half), (x + half, y), (x, y + half), (x - half, y)), style, tip)
        else:
            self.circle(x, y, r, style, tip)

    def _polygon(self, corners: Iterable[tuple[float, float]], style: str, tip: str) -> None:
        polygon = self._add("polygon", style)
        polygon.set("points", " ".join(f"{a:.1f},{b:.1f}" for a, b in corners))
        self._add_tip(polygon, tip)

    def text(
        self, x: float, y: float, content: str, style: str = "", anchor: str = "start"
    ) -> None:
        """Write one line of text on the baseline ``y``."""
        element = self._add("text", style, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = content

    def markup(self) -> Markup:
        """Return the SVG for a template, which does not escape it again."""
        return Markup(ET.tostring(self._root, encoding="unicode"))  # noqa: S704  escaped

    def _add(self, tag: str, style: str, **numbers: float) -> ET.Element:
        attributes = {name: f"{value:.1f}" for name, value in numbers.items()}
        return ET.SubElement(self._root, tag, attributes | {"class": style})

    @staticmethod
    def _add_tip(element: ET.Element, tip: str) -> None:
        if tip:
            ET.SubElement(element, "title").text = tip


def shorten(text: str, length: int) -> str:
    """Cut a text to ``length`` characters, with an ellipsis where some are missing."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def model_style(model: str) -> str:
    """Return the CSS class of a model's colour; the models of a user share one."""
    return f"m-{model}" if model in ("base", "student") else "m-other"
