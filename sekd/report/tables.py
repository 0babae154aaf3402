"""The report's tables, each built once and written in every format by :mod:`.writers`.

To add a table, add its builder to :data:`REPORT_TABLES`. A run's report then has its files, and the
page shows it in the section that the entry names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellResult
from sekd.analysis.cost import COST_KEYS, RelativeCost, unit_of_costs
from sekd.analysis.diagnosis import NO_ERROR
from sekd.analysis.metrics import LEVEL_METRICS, PATH_METRICS
from sekd.analysis.results import Evaluation
from sekd.config import SOLVER, WITHOUT_QUIZ
from sekd.report.coverage import coverage_table
from sekd.report.table import Column, Table, Value, count_groups

OPTIONS_ALONE = "options alone"
"""What the control ``taxonomy`` is called in the report."""

_Figure: TypeAlias = tuple[Column, Callable[[CellResult], Value]]
"""A column, and what it shows of a cell."""

_TITLES = {metric.key: metric.title for metric in (*PATH_METRICS, *LEVEL_METRICS)}
_MAIN_METRICS = ("hca", "leaf_accuracy", "parse_failure_rate")
PART_METRICS = [metric.key for metric in PATH_METRICS if metric.key not in _MAIN_METRICS]
"""Metrics that judge a path in part."""


def cells_table(evaluation: Evaluation) -> Table:
    """Show every cell without a control; a narrow screen shows its first columns."""
    cells = [
        cell
        for cell in cells_with_controls(evaluation)
        if not (cell.key.is_controlled or cell.key.model == SOLVER)
    ]
    title = "Accuracy in percent; HCA: the whole path is right, with its 95 % interval"
    if unit := unit_of_costs(cell.cost for cell in cells):
        title += f"; cost: tokens, 1 is {unit}; s: seconds an image"
    table = _table_of_cells("cells", title, _main_figures(evaluation), cells)
    notes = [*_notes_about_questions(evaluation), *_notes_about_training(evaluation)]
    return replace(table, note=" ".join(notes))


def controlled_cells_table(evaluation: Evaluation) -> Table:
    """Show the same figures of the cells under a control."""
    cells = [cell for cell in cells_with_controls(evaluation) if cell.key.is_controlled]
    title = "Accuracy in percent under controls; HCA with its 95 % interval"
    return _table_of_cells("controlled_cells", title, _main_figures(evaluation), cells)


def _main_figures(evaluation: Evaluation) -> list[_Figure]:
    return [
        (Column("hca", _TITLES["hca"], has_interval=True), _rate("hca")),
        _metric_figure("leaf_accuracy"),
        _metric_figure("parse_failure_rate"),
        (Column("num_samples", "n"), lambda cell: cell.num_samples),
        (Column("relative_tokens", "cost", digits=2), _relative_tokens),
        (Column("seconds", "s", digits=2, is_significant=True), _cost("seconds")),
        *_accuracy_figures(evaluation),
    ]


def _accuracy_figures(evaluation: Evaluation) -> list[_Figure]:
    """Give the accuracy by rank where a rank stands at several levels, else by level."""
    ranks = {tuple(cell.ranks) for cell in evaluation.cells.values()}
    if len(ranks) == 1 and (names := ranks.pop()):
        return [(Column(f"rank_accuracy_{name}", name), _rank_rate(name)) for name in names]
    return [
        (Column(f"level_accuracy_{level}", rank), _level_rate("level_accuracy", level))
        for level, rank in evaluation.level_headings().items()
    ]


def _notes_about_training(evaluation: Evaluation) -> Iterator[str]:
    """Mark the datasets whose images the student was trained on."""
    for dataset in evaluation.datasets:
        num_trained_on = evaluation.num_trained_on(dataset)
        if num_trained_on:
            yield f"The student was trained on {num_trained_on:,} of the images of {dataset}."


def _notes_about_questions(evaluation: Evaluation) -> Iterator[str]:
    """Say, for each dataset, how many questions of its quiz are easier than they look."""
    for dataset in evaluation.datasets:
        keys = [cell.key for cell in evaluation.plain_cells if cell.key.dataset == dataset]
        asked = [key for key in keys if key.paradigm not in WITHOUT_QUIZ]
        shares = evaluation.cells[asked[0]].questions if asked else None
        if shares is not None and (shares.single_option or shares.few_siblings):
            yield (
                f"Of the questions of {dataset}, {shares.single_option:.1f} % have a single option "
                f"and {shares.few_siblings:.1f} % a wrong option of another parent."
            )


def differences_table(evaluation: Evaluation) -> Table:
    """Show cells side by side on the same images."""
    metrics = ("hca", "leaf_accuracy", "tice")
    rows: list[list[Value]] = []
    for comparison in evaluation.comparisons:
        paired = comparison.paired
        rows.append(
            [
                comparison.a.dataset,
                str(comparison.a),
                str(comparison.b),
                *(paired.differences.rate(metric) for metric in metrics),
                paired.whole_path.mcnemar.p_value,
                evaluation.corrected_p(comparison),
                paired.num_samples,
            ]
        )
    names = [Column("dataset", "dataset"), Column("a", "first"), Column("b", "minus")]
    differences = [
        Column(metric, _TITLES[metric], has_interval=True, is_signed=True) for metric in metrics
    ]
    tests = [
        Column("mcnemar_p", "McNemar p", digits=4, is_probability=True),
        Column("holm_p", "corrected p", digits=4, is_probability=True),
        Column("num_samples", "n"),
    ]
    return Table(
        name="differences",
        title="Paired differences on the same images, in percentage points, with 95 % intervals",
        columns=[*names, *differences, *tests],
        num_names=len(names),
        rows=rows,
        groups=count_groups(row[0] for row in rows),
    ).without_empty_columns()


def part_metrics_table(evaluation: Evaluation) -> Table:
    """Show the metrics that judge a path in part."""
    return _table_of_cells(
        "path_metrics",
        "Metrics that judge a path in part, in percent",
        [_metric_figure(metric) for metric in PART_METRICS],
        cells_with_controls(evaluation),
    )


def levels_table(evaluation: Evaluation) -> Table:
    """Show accuracy by level where the level above is right, and where it is wrong."""
    conditional = [metric.key for metric in LEVEL_METRICS if metric.needs_parent]
    return _table_of_cells(
        "levels",
        "Accuracy in percent where the level above is right, and where it is wrong",
        [
            (
                Column(f"{metric}_{level}", f"{rank}, {_TITLES[metric]}"),
                _level_rate(metric, level),
            )
            for level, rank in evaluation.level_headings().items()
            if level > 1
            for metric in conditional
        ],
        cells_with_controls(evaluation),
    )


def first_error_table(evaluation: Evaluation) -> Table:
    """Show at which level paths leave the right one."""
    levels = [
        (Column(f"first_error_{level}", rank), _first_error_share(level))
        for level, rank in evaluation.level_headings().items()
    ]
    no_error = (Column("first_error_none", "no error"), _first_error_share(NO_ERROR))
    return _table_of_cells(
        "first_error",
        "The first wrong level, in percent of the images",
        [*levels, no_error],
        cells_with_controls(evaluation),
    )


def calibration_table(evaluation: Evaluation) -> Table:
    """Show how far the stated confidence is from the accuracy."""
    return _table_of_cells(
        "calibration",
        "Expected calibration error over all levels, in percentage points",
        [
            (Column("ece", "ECE"), lambda cell: cell.diagnosis.ece),
            (Column("ece_calibrated", "ECE calibrated"), lambda c: c.diagnosis.calibrated_ece),
        ],
        cells_with_controls(evaluation),
    )


_NUM_CONFUSIONS = 5


def confusions_table(evaluation: Evaluation) -> Table:
    """Show the most frequent mistakes of every cell."""
    rows: list[list[Value]] = [
        [
            cell.key.dataset,
            cell.key.model,
            cell.key.paradigm,
            evaluation.rank(cell.key.dataset, pair.level),
            pair.truth_name,
            pair.prediction_name,
            pair.count,
            pair.share,
        ]
        for cell in evaluation.plain_cells
        for pair in cell.diagnosis.most_confused[:_NUM_CONFUSIONS]
    ]
    names = [Column(name, name) for name in ("dataset", "model", "paradigm", "level", "truth")]
    names.append(Column("prediction", "taken for"))
    return Table(
        name="confusions",
        title=f"The {_NUM_CONFUSIONS} most frequent mistakes of each cell",
        columns=[*names, Column("count", "times"), Column("share", "% of that truth")],
        num_names=len(names),
        rows=rows,
        groups=count_groups(row[:3] for row in rows),
    )


def cost_table(evaluation: Evaluation) -> Table:
    """Show what one image costs, without a control."""
    unit = unit_of_costs(cell.cost for cell in evaluation.plain_cells)
    columns = {
        "calls": Column("calls", "calls", digits=2),
        "prefill_tokens": Column("prefill_tokens", "tokens read"),
        "cached_tokens": Column("cached_tokens", "found in a cache"),
        "decode_tokens": Column("decode_tokens", "tokens written"),
        "seconds": Column("seconds", "seconds", digits=4),
    }
    return _table_of_cells(
        "cost",
        "Cost of one image (means)" + (f"; in the last two columns 1 is {unit}" if unit else ""),
        [
            *((columns[key], _cost(key)) for key in COST_KEYS),
            (Column("latency", "seconds, one image alone", digits=4), _cost("latency")),
            (Column("relative_tokens", "tokens, relative", digits=2), _relative_tokens),
            (Column("relative_seconds", "seconds, relative", digits=2), _relative_seconds),
        ],
        evaluation.plain_cells,
    )


def controls_table(evaluation: Evaluation) -> Table:
    """Show the HCA of each cell under a control, beside the plain one on the same images."""
    rows: list[list[Value]] = []
    for cell in cells_with_controls(evaluation):
        key = cell.key
        if key.is_controlled and cell.rate("hca") is not None:
            plain = None if cell.plain is None else cell.plain.rate("hca")
            rows.append([*key, cell.rate("hca"), plain, cell.num_samples])
    for dataset in evaluation.datasets:
        options_alone = evaluation.options_alone(dataset)
        if options_alone:
            num_samples = options_alone.num_samples
            rows.append([dataset, OPTIONS_ALONE, "", "", options_alone, None, num_samples])
    rows.sort(key=lambda row: evaluation.datasets.index(str(row[0])))
    names = [Column(name, name) for name in ("dataset", "model", "paradigm", "control")]
    return Table(
        name="controls",
        title="HCA in percent under controls, and without the control on the same images",
        columns=[
            *names,
            Column("hca", "HCA", has_interval=True),
            Column("hca_plain", "plain, same images", has_interval=True),
            Column("num_samples", "n"),
        ],
        num_names=len(names),
        rows=rows,
        groups=count_groups(row[:2] for row in rows),
    ).without_empty_columns()


@dataclass(frozen=True)
class ReportTable:
    """An entry of :data:`REPORT_TABLES`.

    Attributes:
        build: makes the table; a table without figures is left out of the report.
        section: id of the section of the page in which the table can be unfolded; empty for a
            table that the page shows unfolded at a place of its own, or not at all.
        summary: what a reader clicks to unfold it.
    """

    build: Callable[[Evaluation], Table]
    section: str = ""
    summary: str = ""


REPORT_TABLES: Sequence[ReportTable] = (
    ReportTable(cells_table),
    ReportTable(controlled_cells_table, section="controls", summary="All figures under controls"),
    ReportTable(differences_table),
    ReportTable(part_metrics_table, section="origin", summary="All path metrics"),
    ReportTable(levels_table, section="depth", summary="By-level figures"),
    ReportTable(first_error_table, section="first-error", summary="Figures"),
    ReportTable(calibration_table),
    ReportTable(coverage_table, section="confidence", summary="Accuracy at a confidence"),
    ReportTable(confusions_table, section="agreement", summary="Which node is taken for which"),
    ReportTable(cost_table),
    ReportTable(controls_table),
)
"""Every table of the report."""


def cells_with_controls(evaluation: Evaluation) -> list[CellResult]:
    """Return cells by dataset, model and paradigm as evaluated, each before its controls."""
    datasets, models = evaluation.datasets, evaluation.models
    uncontrolled = list(dict.fromkeys(key.uncontrolled for key in evaluation.cells))

    def sort_key(cell: CellResult) -> tuple[int, int, int, bool]:
        key = cell.key
        return (
            datasets.index(key.dataset),
            models.index(key.model),
            uncontrolled.index(key.uncontrolled),
            key.is_controlled,
        )

    return sorted(evaluation.cells.values(), key=sort_key)


def _rate(metric: str) -> Callable[[CellResult], Value]:
    return lambda cell: cell.rate(metric)


def _level_rate(metric: str, level: int) -> Callable[[CellResult], Value]:
    return lambda cell: cell.by_level(metric).get(level)


def _rank_rate(rank: str) -> Callable[[CellResult], Value]:
    return lambda cell: cell.ranks.get(rank)


def _metric_figure(metric: str) -> _Figure:
    return Column(metric, _TITLES[metric]), _rate(metric)


def _cost(key: str) -> Callable[[CellResult], Value]:
    return lambda cell: None if cell.cost is None else getattr(cell.cost, key)


def _relative_cost(cell: CellResult) -> RelativeCost | None:
    return None if cell.cost is None else cell.cost.relative


def _relative_tokens(cell: CellResult) -> Value:
    relative = _relative_cost(cell)
    return None if relative is None else relative.tokens


def _relative_seconds(cell: CellResult) -> Value:
    relative = _relative_cost(cell)
    return None if relative is None else relative.seconds


def _first_error_share(level: int) -> Callable[[CellResult], Value]:
    def share(cell: CellResult) -> Value:
        first_error = cell.diagnosis.first_error.get(level)
        return None if first_error is None else first_error.share

    return share


def _table_of_cells(
    name: str, title: str, figures: Sequence[_Figure], cells: Iterable[CellResult]
) -> Table:
    """Make a table with one row per cell; cells without any figure are left out."""
    keys: list[CellKey] = []
    rows: list[Sequence[Value]] = []
    labels: dict[str, str] = {}
    for cell in cells:
        key = cell.key
        values = [value_of(cell) for _, value_of in figures]
        if any(value is not None for value in values):
            keys.append(key)
            control = key.control if key.is_controlled else ""
            rows.append([key.dataset, key.model, key.paradigm, control, *values])
            if cell.is_zero_shot:
                labels[key.dataset] = f"{key.dataset} (zero-shot)"
    names = [
        Column("dataset", "dataset", labels=labels),
        *(Column(name, name) for name in ("model", "paradigm", "control")),
    ]
    return Table(
        name=name,
        title=title,
        columns=[*names, *(column for column, _ in figures)],
        num_names=len(names),
        rows=rows,
        groups=count_groups((key.dataset, key.model) for key in keys),
    ).without_empty_columns()
