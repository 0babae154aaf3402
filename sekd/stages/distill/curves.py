"""The course of a training: a table for machines and a figure for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sekd.stages.distill.objective import TERMS

CSV_NAME, PNG_NAME = "curves.csv", "curves.png"

_PANELS = {
    "loss": ("loss", "weighted sum"),
    "hard": ("hard: the teacher's letters", "cross-entropy [nats]"),
    "format": ("format: the words around them", "cross-entropy [nats]"),
    "text": ("text: all tokens of the answer", "cross-entropy [nats]"),
    "soft": ("soft: the teacher's distribution", "divergence [nats]"),
    "feature": ("feature: the teacher's states", "distance"),
    "replay": ("replay: drift from the base", "divergence [nats]"),
}
"""Column -> title and what its axis measures."""
_COLUMNS, _WIDTH, _HEIGHT, _DPI = 3, 3.4, 2.5, 110
_INK, _SOFT, _GRID, _LINE = "#1d1f23", "#5d6269", "#e4e2dc", "#0a5fbf"
_NUM_AVERAGED = 25
"""The thick line has about so many independent points, each a mean of its neighbours."""


def write_curves(history: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """Write ``curves.csv`` and ``curves.png``, each whole at any moment.

    Args:
        history: the Trainer's log; lines with a loss count.
    """
    rows = [line for line in history if "loss" in line]
    terms = [name for name in TERMS if any(name in row for row in rows)]
    columns = ["step", "epoch", "loss", *terms, "learning_rate", "grad_norm"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    _write(directory / CSV_NAME, text.getvalue().encode())
    _write(directory / PNG_NAME, _drawn(rows, ["loss", *terms]))


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _drawn(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    """Small multiples, a panel for each name, all over the same steps."""
    num_rows = -(-len(names) // _COLUMNS)
    size = (_COLUMNS * _WIDTH, num_rows * _HEIGHT)
    figure = Figure(size, _DPI, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    for index, name in enumerate(names):
        panel = figure.add_subplot(num_rows, _COLUMNS, index + 1)
        points = [(row["step"], row[name]) for row in rows if name in row]
        _draw(panel, points, *_PANELS[name])
        panel.set_xlim(0, max(row["step"] for row in rows) * 1.02)
    caption = "thin: each logged step; thick: mean over its neighbours"
    figure.suptitle(caption, x=0.99, ha="right", fontsize=8, color=_SOFT)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def _draw(panel: Axes, points: Sequence[tuple[int, float]], title: str, unit: str) -> None:
    steps, values = zip(*points, strict=True)
    width = max(1, len(values) // _NUM_AVERAGED)
    means = [_mean(values[max(0, at - width) : at + width + 1]) for at in range(len(values))]
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
