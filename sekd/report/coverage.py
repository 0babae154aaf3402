"""Accuracy against coverage, where a model gives the probability of a whole path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sekd.analysis.cells import CellResult
from sekd.analysis.results import Evaluation
from sekd.analysis.selective import SelectiveCurve
from sekd.config import WITHOUT_QUIZ
from sekd.report.charts import Chart, level_style
from sekd.report.drawings.coverage import draw_coverage
from sekd.report.table import Column, Table, Value, count_groups

_THRESHOLDS = (50, 80, 95)
_NAMES = ("dataset", "model", "paradigm", "probabilities", "level")


def coverage_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw a panel for each cell of a paradigm that gives paths, with a line for each level.

    A cell whose model was calibrated has a second panel, of the scaled probabilities.
    """
    charts = []
    for cell in _cells_with_paths(evaluation):
        dataset = cell.key.dataset
        for probabilities, by_level in _curves_of(cell):
            curves = {
                evaluation.rank(dataset, level): (level_style(level), curve)
                for level, curve in by_level.items()
            }
            name = f"{cell.key} on {evaluation.title(dataset)}, {probabilities}"
            alt = f"Accuracy over coverage in percent, {name}"
            charts.append(Chart(name, draw_coverage(curves, alt)))
    return charts


def coverage_table(evaluation: Evaluation) -> Table:
    """Show how many answers have at least some confidence, and how many of those are right."""
    rows: list[list[Value]] = []
    for cell in _cells_with_paths(evaluation):
        for probabilities, curves in _curves_of(cell):
            for level, curve in curves.items():
                rank = evaluation.rank(cell.key.dataset, level)
                rows.append([*cell.key[:3], probabilities, rank, *_figures_of(curve)])
    names = [Column(name, name) for name in _NAMES]
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
        groups=count_groups(row[:4] for row in rows),
    )


def _curves_of(cell: CellResult) -> Iterator[tuple[str, Mapping[int, SelectiveCurve]]]:
    """Yield the curves of a cell's probabilities as they are, and as they are calibrated."""
    yield "uncalibrated", cell.diagnosis.selective
    calibrated = cell.diagnosis.calibrated
    if calibrated is not None:
        yield str(calibrated.scaling), calibrated.selective


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
