"""The report's charts, each with a text alternative that tells all its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.analysis.metrics import Estimate
from sekd.analysis.results import NO_ERROR, PARADIGMS, CellKey, Evaluation, Levels
from sekd.config import BASE, STUDENT
from sekd.report import paper
from sekd.report.drawings.bars import Segment, bars
from sekd.report.drawings.dots import Lane, dots
from sekd.report.drawings.lines import Series, lines
from sekd.report.drawings.reliability import reliability
from sekd.report.formats import number
from sekd.report.tables import cell_label, level_headings


@dataclass(frozen=True)
class Chart:
    """One figure of the page; ``is_paper`` sets the paper's figures apart from the run's."""

    title: str
    drawing: Markup
    is_paper: bool = False


@dataclass(frozen=True)
class Charts:
    """All of them; what the run lacks is an empty list. A legend is name -> CSS class."""

    hca: Sequence[Chart]
    depth: Sequence[Chart]
    parents: Sequence[Chart]
    first_error: Sequence[Chart]
    first_error_legend: Mapping[str, str]
    agreement: Sequence[Chart]
    agreement_legend: Mapping[str, str]
    reliability: Sequence[Chart]


def all_charts(results: Evaluation) -> Charts:
    """Every chart that the run has figures for."""
    headings = level_headings(results.ranks)
    return Charts(
        hca=hca_charts(results),
        depth=depth_charts(results),
        parents=parent_charts(results),
        first_error=first_error_charts(results),
        first_error_legend={name: _step_style(level) for level, name in headings.items()}
        | {"no error": "none"},
        agreement=agreement_charts(results),
        agreement_legend=_AGREEMENT,
        reliability=reliability_charts(results),
    )


def hca_charts(results: Evaluation) -> list[Chart]:
    """HCA of every cell, a panel per dataset; controls below what they qualify."""
    charts = []
    for dataset in results.datasets:
        groups = {paradigm: _lanes(results, dataset, paradigm) for paradigm in PARADIGMS}
        groups = {paradigm: lanes for paradigm, lanes in groups.items() if lanes}
        floor = results.options_alone(dataset)
        if groups:
            alt = f"HCA in percent with 95 % intervals on {dataset}"
            charts.append(
                Chart(results.title(dataset), dots(groups, floor.value if floor else None, alt))
            )
    return charts


def _lanes(results: Evaluation, dataset: str, paradigm: str) -> list[Lane]:
    cells = [
        cell
        for cell in results.plain_cells
        if (cell.key.dataset, cell.key.paradigm) == (dataset, paradigm)
    ]
    controls: dict[str, dict[str, Estimate]] = {}
    for cell in cells:
        for control in results.controls_of(cell.key):
            rate = control.rate("hca")
            if rate is not None:
                controls.setdefault(control.key.control, {})[control.key.model] = rate
    plain = [
        Lane(cell.key.model, {cell.key.model: rate}) for cell in cells if (rate := cell.rate("hca"))
    ]
    return plain + [Lane(name, rates, is_control=True) for name, rates in controls.items()]


def depth_charts(results: Evaluation) -> list[Chart]:
    """Accuracy by level of the three paradigms, a panel per dataset and model, and the paper's."""
    charts = []
    for dataset in results.datasets:
        for model in results.models:
            found = {p: results.get(dataset, model, p) for p in PARADIGMS}
            series = [
                Series(p, p, cell.by_level("level_accuracy"))
                for p, cell in found.items()
                if cell is not None
            ]
            chart = _by_level(results, dataset, f"{model} on {results.title(dataset)}", series)
            charts += [chart] if chart else []
    series = [Series(name, name, _paper(values)) for name, values in paper.ACCURACY.items()]
    return _with_paper(charts, "base", series)


def parent_charts(results: Evaluation) -> list[Chart]:
    """Accuracy where the level above is right and where it is wrong, step by step."""
    charts = []
    for dataset in results.datasets:
        for model in results.models:
            cell = results.get(dataset, model, "conditioned")
            if cell is not None:
                series = [
                    Series("parent right", "right", cell.by_level("accuracy_given_parent_correct")),
                    Series("parent wrong", "wrong", cell.by_level("accuracy_given_parent_wrong")),
                ]
                chart = _by_level(results, dataset, f"{model} on {results.title(dataset)}", series)
                charts += [chart] if chart else []
    styles = {"parent right": "right", "parent wrong": "wrong"}
    series = [
        Series(name, styles[name], _paper(values)) for name, values in paper.GIVEN_PARENT.items()
    ]
    return _with_paper(charts, "base, step by step", series)


def _by_level(
    results: Evaluation, dataset: str, title: str, series: Sequence[Series]
) -> Chart | None:
    levels = sorted({level for each in series for level in each.points})
    if len(levels) < 2:
        return None  # a point is no course
    names = {level: results.rank(dataset, level) for level in levels}
    return Chart(title, lines(series, names, f"Accuracy in percent by level, {title}"))


def _paper(values: Sequence[float]) -> Levels:
    return {level: Estimate(value, value, value) for level, value in enumerate(values, 1)}


def _with_paper(charts: list[Chart], what: str, series: Sequence[Series]) -> list[Chart]:
    if not charts:
        return []
    names = dict(enumerate(paper.LEVELS, 1))
    title = f"the paper's own: {what}"
    drawing = lines(series, names, f"Accuracy in percent by level, {title} ({paper.SOURCE})")
    return [*charts, Chart(title, drawing, is_paper=True)]


def first_error_charts(results: Evaluation) -> list[Chart]:
    """At which level paths leave the right one, a panel per dataset."""
    charts = []
    for dataset in results.datasets:
        rows = {}
        for cell in results.plain_cells:
            if cell.key.dataset == dataset and cell.first_error:
                rows[cell_label(cell.key)] = [
                    Segment(share, _first_error_name(results, dataset, level), _step_style(level))
                    for level, share in _none_last(cell.first_error)
                ]
        if rows:
            alt = f"First wrong level, percent of the images of {dataset}"
            charts.append(Chart(results.title(dataset), bars(rows, alt)))
    return charts


def _step_style(level: int) -> str:
    return "none" if level == NO_ERROR else f"step-{min(max(level, 1), 7)}"


def _none_last(shares: Mapping[int, float]) -> Iterable[tuple[int, float]]:
    return sorted(shares.items(), key=lambda item: (item[0] == NO_ERROR, item[0]))


def _first_error_name(results: Evaluation, dataset: str, level: int) -> str:
    return "no error" if level == NO_ERROR else results.rank(dataset, level)


_AGREEMENT = {
    "both right": "both",
    "only the student": "only-student",
    "only the teacher": "only-teacher",
    "both wrong": "neither",
}


def agreement_charts(results: Evaluation) -> list[Chart]:
    """Where the student (one call) and its teacher (step by step) are right, by level."""
    charts = []
    for dataset in results.datasets:
        student = CellKey(dataset, STUDENT, "joint")
        comparison = results.compare(student, CellKey(dataset, BASE, "conditioned"))
        if comparison is None or not comparison.levels:
            continue
        rows = {}
        for level, counts in comparison.levels.items():
            total = sum(counts)
            if total:
                shares = [100 * count / total for count in counts]
                rows[results.rank(dataset, level)] = [
                    Segment(share, *each)
                    for share, each in zip(shares, _AGREEMENT.items(), strict=True)
                ]
        if rows:
            alt = f"Who is right, percent of the images of {dataset} by level"
            charts.append(Chart(results.title(dataset), bars(rows, alt)))
    return charts


def reliability_charts(results: Evaluation) -> list[Chart]:
    """Accuracy over confidence, a panel per cell that has confidences."""
    charts = []
    for cell in results.plain_cells:
        if cell.reliability:
            name = f"{cell_label(cell.key)} on {cell.key.dataset}"
            ece = "" if cell.ece is None else f"; expected calibration error {number(cell.ece)}"
            alt = f"Accuracy over confidence in percent, {name}{ece}"
            title = name if cell.ece is None else f"{name}: ECE {number(cell.ece)}"
            charts.append(Chart(title, reliability(cell.reliability, alt)))
    return charts
