"""The curves of a training: a CSV table and a figure of the loss and its terms over the steps."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sekd.io.files import write_atomically
from sekd.stages.distill.terms import TERMS

CSV_NAME, PNG_NAME = "curves.csv", "curves.png"

_PANELS = {"loss": ("loss", "weighted sum")} | {
    term.name: (term.title, term.unit) for term in TERMS
}
"""Column -> the panel's title and the unit of its axis."""
_COLUMNS, _WIDTH, _HEIGHT, _DPI = 3, 3.4, 2.5, 110
_INK, _SOFT, _GRID, _LINE = "#1d1f23", "#5d6269", "#e4e2dc", "#0a5fbf"
_NUM_AVERAGED = 25
"""The number of independent points of the thick line; each is a mean over neighbouring steps."""


def write_curves(history: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """Write ``curves.csv`` and ``curves.png``; each file is replaced atomically.

    Args:
        history: the Trainer's log; entries without a loss are skipped.
    """
    entries = [entry for entry in history if "loss" in entry]
    terms = [term.name for term in TERMS if any(term.name in entry for entry in entries)]
    columns = ["step", "epoch", "loss", *terms, "learning_rate", "grad_norm"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(entries)
    write_atomically(directory / CSV_NAME, text.getvalue())
    write_atomically(directory / PNG_NAME, _render_png(entries, ["loss", *terms]))


def read_curves(directory: Path) -> list[dict[str, float]]:
    """Read ``curves.csv``: the logged steps with their values; none if it is not there."""
    path = directory / CSV_NAME
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def _render_png(entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    """Render one panel for each name; all panels have the same steps on their x axis."""
    num_rows = math.ceil(len(names) / _COLUMNS)
    size = (_COLUMNS * _WIDTH, num_rows * _HEIGHT)
    figure = Figure(size, _DPI, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    for index, name in enumerate(names):
        panel = figure.add_subplot(num_rows, _COLUMNS, index + 1)
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        title, unit = _PANELS[name]
        _plot_panel(panel, points, title, unit)
        panel.set_xlim(0, max(entry["step"] for entry in entries) * 1.02)
    caption = "thin: each logged step; thick: mean over its neighbours"
    figure.suptitle(caption, x=0.99, ha="right", fontsize=8, color=_SOFT)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def _plot_panel(panel: Axes, points: Sequence[tuple[int, float]], title: str, unit: str) -> None:
    steps, values = zip(*points, strict=True)
    width = max(1, len(values) // _NUM_AVERAGED)
    means = [_mean(values[max(0, i - width) : i + width + 1]) for i in range(len(values))]
    panel.plot(steps, values, color=_LINE, alpha=0.3, linewidth=0.8)
    panel.plot(steps, means, color=_LINE, linewidth=1.8, marker="o" if len(means) < 3 else None)
    panel.set_ylim(0, max(values) * 1.05 or 1)
    panel.set_title(title, loc="left", fontsize=10, color=_INK)
    panel.set_xlabel("optimizer step", fontsize=8, color=_SOFT)
    panel.set_ylabel(unit, fontsize=8, color=_SOFT)
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.tick_params(labelsize=8, colors=_SOFT, length=0)
    panel.grid(color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(_GRID)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
