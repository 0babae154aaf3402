"""The report's charts, each with a text alternative that says all its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sekd.analysis.calibration import Calibration
from sekd.analysis.cell_key import PARADIGMS
from sekd.analysis.cells import CellResult
from sekd.analysis.comparison import Agreement
from sekd.analysis.diagnosis import NO_ERROR
from sekd.analysis.estimates import Estimate, Levels
from sekd.analysis.results import Evaluation
from sekd.analysis.roles import student_and_teacher
from sekd.report import paper
from sekd.report.drawings.bars import Segment, draw_bars
from sekd.report.drawings.dots import Lane, draw_dots
from sekd.report.drawings.lines import Series, draw_lines
from sekd.report.drawings.reliability import ReliabilityDot, draw_reliability
from sekd.report.formats import format_number


@dataclass(frozen=True)
class Chart:
    """One drawing of the page; ``is_paper`` sets the paper's figures apart from the run's."""

    title: str
    drawing: Markup
    is_paper: bool = False


@dataclass(frozen=True)
class Charts:
    """All charts; an empty list stands for what the run lacks. A legend is name -> CSS class."""

    hca: Sequence[Chart]
    depth: Sequence[Chart]
    parents: Sequence[Chart]
    first_error: Sequence[Chart]
    first_error_legend: Mapping[str, str]
    agreement: Sequence[Chart]
    agreement_legend: Mapping[str, str]
    reliability: Sequence[Chart]


def draw_charts(evaluation: Evaluation) -> Charts:
    """Draw every chart that the run has figures for."""
    level_styles = {
        heading: level_style(level) for level, heading in evaluation.level_headings().items()
    }
    return Charts(
        hca=hca_charts(evaluation),
        depth=depth_charts(evaluation),
        parents=parent_charts(evaluation),
        first_error=first_error_charts(evaluation),
        first_error_legend={**level_styles, "no error": level_style(NO_ERROR)},
        agreement=agreement_charts(evaluation),
        agreement_legend=_AGREEMENT_STYLES,
        reliability=reliability_charts(evaluation),
    )


def hca_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw HCA of every cell, a panel per dataset; controls below the cells that they qualify."""
    charts = []
    for dataset in evaluation.datasets:
        groups = {
            paradigm: lanes
            for paradigm in PARADIGMS
            if (lanes := _hca_lanes(evaluation, dataset, paradigm))
        }
        if groups:
            options_alone = evaluation.options_alone(dataset)
            drawing = draw_dots(
                groups,
                options_alone.value if options_alone else None,
                f"HCA in percent with 95 % intervals on {dataset}",
            )
            charts.append(Chart(evaluation.title(dataset), drawing))
    return charts


def _hca_lanes(evaluation: Evaluation, dataset: str, paradigm: str) -> list[Lane]:
    """Return one lane per model, and below them one lane per control."""
    lanes = []
    controls: dict[str, dict[str, Estimate]] = {}
    for cell in evaluation.plain_cells:
        key = cell.key
        if (key.dataset, key.paradigm) != (dataset, paradigm):
            continue
        rate = cell.rate("hca")
        if rate is not None:
            lanes.append(Lane(key.model, {key.model: rate}))
        for controlled in evaluation.controls_of(key):
            rate = controlled.rate("hca")
            if rate is not None:
                controls.setdefault(controlled.key.control, {})[key.model] = rate
    return lanes + [
        Lane(_with_count(name, rates.values()), rates, is_control=True)
        for name, rates in controls.items()
    ]


def _with_count(control: str, rates: Iterable[Estimate]) -> str:
    """Name a control and its number of images, which is often not that of the plain cells."""
    counts = sorted({rate.num_samples for rate in rates if rate.num_samples is not None})
    return f"{control}, n {'/'.join(f'{count:,}' for count in counts)}" if counts else control


def depth_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw accuracy by level of each paradigm, a panel per dataset and model, and the paper's."""
    charts = []
    for dataset in evaluation.datasets:
        for model in evaluation.models:
            series = [
                Series(paradigm, paradigm, cell.by_level("level_accuracy"))
                for paradigm in PARADIGMS
                if (cell := evaluation.get(dataset, model, paradigm))
            ]
            charts += _level_charts(evaluation, dataset, model, series)
    series = [Series(name, name, _paper_levels(values)) for name, values in paper.ACCURACY.items()]
    return _with_paper_chart(charts, "base", series)


def parent_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw accuracy where the level above is right and where it is wrong, step by step."""
    charts = []
    for dataset in evaluation.datasets:
        for model in evaluation.models:
            cell = evaluation.get(dataset, model, "conditioned")
            if cell is not None:
                given_right = cell.by_level("accuracy_given_parent_correct")
                given_wrong = cell.by_level("accuracy_given_parent_wrong")
                series = [
                    Series("parent right", "right", given_right, shows_counts=True),
                    Series("parent wrong", "wrong", given_wrong, shows_counts=True),
                ]
                charts += _level_charts(evaluation, dataset, model, series)
    series = [
        Series("parent right", "right", _paper_levels(paper.GIVEN_PARENT_RIGHT)),
        Series("parent wrong", "wrong", _paper_levels(paper.GIVEN_PARENT_WRONG)),
    ]
    return _with_paper_chart(charts, "base, step by step", series)


def _level_charts(
    evaluation: Evaluation, dataset: str, model: str, series: Sequence[Series]
) -> list[Chart]:
    """Return one chart over the levels, or none where there is a single level."""
    levels = sorted({level for line in series for level in line.points})
    if len(levels) < 2:
        return []
    names = {level: evaluation.rank(dataset, level) for level in levels}
    title = f"{model} on {evaluation.title(dataset)}"
    return [Chart(title, draw_lines(series, names, f"Accuracy in percent by level, {title}"))]


def _paper_levels(values: Sequence[float]) -> Levels:
    """Return the paper's figures, which have no intervals."""
    return {level: Estimate(value, value, value) for level, value in enumerate(values, 1)}


def _with_paper_chart(charts: Sequence[Chart], model: str, series: Sequence[Series]) -> list[Chart]:
    if not charts:
        return []
    names = dict(enumerate(paper.LEVELS, 1))
    title = f"the paper's own: {model}"
    drawing = draw_lines(series, names, f"Accuracy in percent by level, {title} ({paper.SOURCE})")
    return [*charts, Chart(title, drawing, is_paper=True)]


def first_error_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw at which level paths leave the right one, a panel per dataset."""
    charts = []
    for dataset in evaluation.datasets:
        rows = {
            str(cell.key): _first_error_segments(evaluation, cell)
            for cell in evaluation.plain_cells
            if cell.key.dataset == dataset
        }
        if rows:
            alt = f"First wrong level, percent of the images of {dataset}"
            charts.append(Chart(evaluation.title(dataset), draw_bars(rows, alt)))
    return charts


def _first_error_segments(evaluation: Evaluation, cell: CellResult) -> list[Segment]:
    """Return one segment per level, and the images without an error last."""
    shares = {level: share.share for level, share in cell.diagnosis.first_error.items()}
    no_error = shares.pop(NO_ERROR)
    segments = [
        Segment(share, evaluation.rank(cell.key.dataset, level), level_style(level))
        for level, share in sorted(shares.items())
    ]
    return [*segments, Segment(no_error, "no error", level_style(NO_ERROR))]


def level_style(level: int) -> str:
    """Return the CSS class of a level's colour."""
    return "none" if level == NO_ERROR else f"step-{min(max(level, 1), 7)}"


_AGREEMENT_STYLES = {
    "both right": "both",
    "only the student": "only-student",
    "only the teacher": "only-teacher",
    "both wrong": "neither",
}


def agreement_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw where the student (at once) and its teacher (step by step) are right, by level."""
    charts = []
    pairs = [
        pair
        for dataset in evaluation.datasets
        for pair in student_and_teacher(evaluation.cells, dataset)
    ]
    for student, teacher in pairs:
        comparison = evaluation.find_comparison(student, teacher)
        if comparison is None:
            continue
        dataset, title = student.dataset, evaluation.title(student.dataset)
        if (student.paradigm, teacher.paradigm) != ("joint", "conditioned"):
            title += f": student {student.paradigm}, teacher {teacher.paradigm}"
        rows = {
            f"{evaluation.rank(dataset, level)}, n {agreement.num_samples:,}": _agreement_segments(
                agreement
            )
            for level, agreement in comparison.paired.levels.items()
            if agreement.num_samples
        }
        alt = f"Who is right, percent of the images of {dataset} by level"
        charts.append(Chart(title, draw_bars(rows, alt)))
    return charts


def _agreement_segments(agreement: Agreement) -> list[Segment]:
    """Return the shares of the images; a is the student and b its teacher."""
    counts = {
        "both right": agreement.both_right,
        "only the student": agreement.only_a,
        "only the teacher": agreement.only_b,
        "both wrong": agreement.both_wrong,
    }
    return [
        Segment(100 * count / agreement.num_samples, name, _AGREEMENT_STYLES[name])
        for name, count in counts.items()
    ]


def reliability_charts(evaluation: Evaluation) -> list[Chart]:
    """Draw accuracy over confidence, a panel per cell that has confidences.

    A cell whose model was calibrated has a second panel, of the scaled probabilities.
    """
    charts = []
    for cell in evaluation.plain_cells:
        name, scaled = f"{cell.key} on {cell.key.dataset}", cell.diagnosis.calibrated
        if cell.diagnosis.calibration is not None:
            charts.append(_reliability_chart(name, cell.diagnosis.calibration.all))
        if scaled is not None:
            title = f"{name}, {scaled.scaling}"
            charts.append(_reliability_chart(title, scaled.calibration.all))
    return charts


def _reliability_chart(name: str, calibration: Calibration) -> Chart:
    dots = [
        ReliabilityDot(each.confidence, each.accuracy, each.count)
        for each in calibration.bins
        if each.confidence is not None and each.accuracy is not None
    ]
    ece = format_number(calibration.ece)
    alt = f"Accuracy over confidence in percent, {name}; expected calibration error {ece}"
    title = f"{name}: ECE {ece}, n {calibration.num_answers:,} answers"
    return Chart(title, draw_reliability(dots, alt))
