"""Accuracy against coverage, where a model gives the probability of a whole path."""

from __future__ import annotations

from sekd.analysis.cells import CellResult
from sekd.analysis.results import Evaluation
from sekd.analysis.selective import SelectiveCurve
from sekd.config import WITHOUT_QUIZ
from sekd.report.charts import Chart, level_style
from sekd.report.drawings.coverage import draw_coverage
from sekd.report.table import Column, Table, Value, count_groups

_THRESHOLDS = (50, 80, 95)


def coverage_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw a panel for each cell of a paradigm that gives paths, with a line for each level."""
    charts = []
    for cell in _cells_with_paths(evaluation):
        dataset = cell.key.dataset
        curves = {
            evaluation.rank(dataset, level): (level_style(level), curve)
            for level, curve in cell.diagnosis.selective.items()
        }
        name = f"{cell.key} on {evaluation.title(dataset)}"
        alt = f"Accuracy over coverage in percent, {name}"
        charts.append(Chart(name, draw_coverage(curves, alt)))
    return charts


def coverage_table(evaluation: Evaluation) -> Table:
    """Show how many answers have at least some confidence, and how many of those are right."""
    rows: list[list[Value]] = []
    for cell in _cells_with_paths(evaluation):
        for level, curve in cell.diagnosis.selective.items():
            place = [*cell.key[:3], evaluation.rank(cell.key.dataset, level)]
            rows.append([*place, *_figures_of(curve)])
    names = [Column(name, name) for name in ("dataset", "model", "paradigm", "level")]
    figures = [
        column
        for threshold in _THRESHOLDS
        for column in (
            Column(f"coverage_{threshold}", f"kept at {threshold} %"),
            Column(f"accuracy_{threshold}", f"right at {threshold} %"),
        )
    ]
    return Table(
        name="coverage",
        title="Answers kept at a confidence, and those of them that are right, in percent",
        columns=[*names, *figures, Column("accuracy", "right, all")],
        num_names=len(names),
        rows=rows,
        groups=count_groups(row[:3] for row in rows),
    )


def _cells_with_paths(evaluation: Evaluation) -> list[CellResult]:
    return [
        cell
        for cell in evaluation.plain_cells
        if cell.key.paradigm in WITHOUT_QUIZ and cell.diagnosis.selective
    ]


def _figures_of(curve: SelectiveCurve) -> list[Value]:
    """Return coverage and accuracy at each threshold, from the last point of the curve above it."""
    figures: list[Value] = []
    for threshold in _THRESHOLDS:
        kept = [point for point in curve.points if point.threshold >= threshold]
        figures += [kept[-1].coverage, kept[-1].accuracy] if kept else [0.0, None]
    return [*figures, curve.points[-1].accuracy]
