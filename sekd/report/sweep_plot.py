"""The sweep's plot: a panel per dataset, a line per variant, and the base as a reference."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sekd.analysis.sweep import SweepResult, SweepRow

# Colours of Okabe and Ito's palette, which the colour-blind can tell apart; the lines differ in
# style as well.
_STUDENT, _BASE, _TEACHER = "#0072B2", "#555555", "#D55E00"
_REFERENCE_STYLES = {"base": (_BASE, ":"), "base, conditioned": (_TEACHER, "--")}
_REFERENCE_LABELS = {
    "base": "base, asked at once",
    "base, conditioned": "teacher: base, step by step",
}
_PANEL_WIDTH, _NAMES_WIDTH, _LINE_HEIGHT, _FRAME_HEIGHT = 4.0, 1.4, 0.36, 1.5  # inches


def sweep_plot(sweep: SweepResult) -> bytes:
    """Draw a PNG; a variant without a figure keeps its line empty."""
    datasets = sweep.evaluation.datasets
    variants = list(dict.fromkeys(row.variant for row in sweep.rows))
    width = _NAMES_WIDTH + _PANEL_WIDTH * len(datasets)
    height = _FRAME_HEIGHT + _LINE_HEIGHT * len(variants)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(1, len(datasets), sharey=True, squeeze=False)[0]
    for panel, dataset in zip(panels, datasets, strict=True):
        _draw_references(panel, sweep, dataset)
        _draw_students(panel, [row for row in sweep.rows if row.dataset == dataset])
        _style_panel(panel, sweep.evaluation.title(dataset))
    panels[0].set_yticks(range(len(variants)), variants)
    panels[0].set_ylim(len(variants) - 0.5, -0.5)  # the first one on top
    handles, labels = panels[0].get_legend_handles_labels()
    num_columns = len(labels) if len(datasets) > 1 else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns, frameon=False)
    page = io.BytesIO()
    figure.savefig(page, format="png", dpi=160)
    return page.getvalue()


def _draw_references(panel: Axes, sweep: SweepResult, dataset: str) -> None:
    for name, rate in sweep.references(dataset).items():
        colour, style = _REFERENCE_STYLES[name]
        label = _REFERENCE_LABELS[name]
        panel.axvline(rate.value, color=colour, linestyle=style, linewidth=1.4, label=label)


def _draw_students(panel: Axes, rows: Sequence[SweepRow]) -> None:
    """Draw a dot with its spread for each variant, and each seed below it."""
    measured = [(line, row, rate) for line, row in enumerate(rows) if (rate := row.over_seeds)]
    has_seeds = any(len(row.hca) > 1 for _, row, _ in measured)
    spread = "mean, lowest and highest seed" if has_seeds else "95 % over images"
    for line, row, _ in measured:
        if len(row.hca) > 1:
            seeds = [rate.value for rate in row.hca.values()]
            below = [line + 0.25] * len(seeds)  # or the mean would hide them
            panel.plot(seeds, below, "o", ms=4, mfc="none", mec=_STUDENT)
    panel.errorbar(
        [rate.value for _, _, rate in measured],
        [line for line, _, _ in measured],
        xerr=[
            [rate.value - rate.low for _, _, rate in measured],
            [rate.high - rate.value for _, _, rate in measured],
        ],
        fmt="o",
        color=_STUDENT,
        markersize=7,
        capsize=3,
        label=f"student, asked at once ({spread})",
    )


def _style_panel(panel: Axes, title: str) -> None:
    panel.set_title(title, loc="left", fontsize=11)
    panel.set_xlabel("HCA: whole path right, %")
    panel.set_xlim(-2, 102)
    panel.grid(axis="x", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
