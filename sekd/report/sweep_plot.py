"""The sweep's picture: a panel per dataset, a line per variant, the base and its teacher's walk."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sekd.analysis.results import Evaluation
from sekd.analysis.sweep import SweepRow, references

# Of Okabe and Ito's palette, which the colour-blind tell apart; the lines differ in style as well.
_STUDENT, _BASE, _TEACHER = "#0072B2", "#555555", "#D55E00"
_REFERENCES = {"base": (_BASE, ":"), "base, conditioned": (_TEACHER, "--")}
_LABELS = {"base": "base, asked at once", "base, conditioned": "teacher: base, step by step"}
_INCHES = {"panel": 4.0, "names": 1.4, "line": 0.36, "frame": 1.5}


def sweep_plot(results: Evaluation, rows: Sequence[SweepRow]) -> bytes:
    """A PNG.

    Args:
        rows: of all datasets and variants; one without a figure keeps its line empty.
    """
    datasets = results.datasets
    variants = list(dict.fromkeys(row.variant for row in rows))
    figure = Figure(
        figsize=(
            _INCHES["names"] + _INCHES["panel"] * len(datasets),
            _INCHES["frame"] + _INCHES["line"] * len(variants),
        ),
        layout="constrained",
    )
    panels = figure.subplots(1, len(datasets), sharey=True, squeeze=False)[0]
    for panel, dataset in zip(panels, datasets, strict=True):
        _draw(panel, results, dataset, [row for row in rows if row.dataset == dataset])
    panels[0].set_yticks(range(len(variants)), variants)
    panels[0].set_ylim(len(variants) - 0.5, -0.5)  # the first one on top
    handles, labels = panels[0].get_legend_handles_labels()
    num_columns = len(labels) if len(datasets) > 1 else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns, frameon=False)
    page = io.BytesIO()
    figure.savefig(page, format="png", dpi=160)
    return page.getvalue()


def _draw(panel: Axes, results: Evaluation, dataset: str, rows: Sequence[SweepRow]) -> None:
    for name, rate in references(results, dataset).items():
        colour, style = _REFERENCES[name]
        panel.axvline(rate.value, color=colour, linestyle=style, linewidth=1.4, label=_LABELS[name])
    drawn = [(place, row, row.over_seeds) for place, row in enumerate(rows)]
    known = [(place, row, rate) for place, row, rate in drawn if rate]
    has_seeds = any(len(row.hca) > 1 for _, row, _ in known)
    spread = "mean, lowest and highest seed" if has_seeds else "95 % over images"
    for place, row, _ in known:
        if len(row.hca) > 1:
            seeds = [each.value for each in row.hca.values()]
            below = [place + 0.25] * len(seeds)  # or the mean would hide them
            panel.plot(seeds, below, "o", ms=4, mfc="none", mec=_STUDENT)
    panel.errorbar(
        [rate.value for _, _, rate in known],
        [place for place, _, _ in known],
        xerr=[
            [rate.value - rate.low for _, _, rate in known],
            [rate.high - rate.value for _, _, rate in known],
        ],
        fmt="o",
        color=_STUDENT,
        markersize=7,
        capsize=3,
        label=f"student, asked at once ({spread})",
    )
    panel.set_title(results.title(dataset), loc="left", fontsize=11)
    panel.set_xlabel("HCA: whole path right, %")
    panel.set_xlim(-2, 102)
    panel.grid(axis="x", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
