"""The report's tables, each built once and written in every format by :mod:`.formats`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from sekd.analysis.results import NO_ERROR, CellKey, CellResult, Evaluation
from sekd.data.predictions import NO_CONTROL
from sekd.report.table import Column, Table, Value, group_sizes

Ranks: TypeAlias = Mapping[str, Mapping[int, str]]
"""Dataset -> level -> what it is called."""


def cells_table(cells: Iterable[CellResult], ranks: Ranks) -> Table:
    """Every cell, a control right below the cell that it qualifies."""
    cells, headings = list(cells), level_headings(ranks)
    cost = "; cost: tokens, in joint passes" * any(cell.joint_passes("tokens") for cell in cells)
    return _table(
        "cells",
        f"Accuracy in percent; HCA: the whole path is right, with its 95 % interval{cost}",
        [
            Column("hca", "HCA", has_interval=True),
            Column("leaf_accuracy", "leaf"),
            *(Column(f"level_accuracy_{level}", name) for level, name in headings.items()),
            Column("parse_failure_rate", "unparsed"),
            Column("relative_tokens", "cost"),
            Column("num_samples", "n"),
        ],
        cells,
        lambda cell: [
            cell.rate("hca"),
            cell.rate("leaf_accuracy"),
            *(cell.by_level("level_accuracy").get(level) for level in headings),
            cell.rate("parse_failure_rate"),
            cell.joint_passes("tokens"),
            cell.num_samples,
        ],
    )


_PATH_METRICS = {
    "por": "POR",
    "tor": "TOR",
    "spor_prefix": "S-POR prefix",
    "spor_run": "S-POR run",
    "dwpa": "DWPA",
    "tice": "TICE",
}


def path_metrics_table(cells: Iterable[CellResult]) -> Table:
    """The metrics that judge a path in part."""
    return _table(
        "path_metrics",
        "Metrics that judge a path in part, in percent",
        [Column(key, heading) for key, heading in _PATH_METRICS.items()],
        cells,
        lambda cell: [cell.rate(key) for key in _PATH_METRICS],
    )


def levels_table(cells: Iterable[CellResult], ranks: Ranks) -> Table:
    """Accuracy by level, and the same where the level above is right and where it is wrong."""
    headings = level_headings(ranks)
    metrics = {
        "accuracy_given_parent_correct": "parent right",
        "accuracy_given_parent_wrong": "parent wrong",
    }
    return _table(
        "levels",
        "Accuracy in percent where the level above is right, and where it is wrong",
        [
            Column(f"{key}_{level}", f"{name}, {heading}")
            for level, name in headings.items()
            if level > 1
            for key, heading in metrics.items()
        ],
        cells,
        lambda cell: [
            cell.by_level(key).get(level) for level in headings if level > 1 for key in metrics
        ],
    )


_COSTS = (
    Column("calls", "calls", digits=2),
    Column("prefill_tokens", "tokens read"),
    Column("cached_tokens", "found in a cache"),
    Column("decode_tokens", "tokens written"),
    Column("seconds", "seconds", digits=4),
)


def cost_table(cells: Iterable[CellResult]) -> Table:
    """What one image costs."""
    return _table(
        "cost",
        "Cost of one image (means); the last two in joint passes of the same model",
        [
            *_COSTS,
            Column("relative_tokens", "tokens, relative", digits=2),
            Column("relative_seconds", "seconds, relative", digits=2),
        ],
        cells,
        lambda cell: [
            *(cell.cost(column.key) for column in _COSTS),
            cell.joint_passes("tokens"),
            cell.joint_passes("seconds"),
        ],
    )


def first_error_table(cells: Iterable[CellResult], ranks: Ranks) -> Table:
    """Where paths leave the right one."""
    headings = {**level_headings(ranks), NO_ERROR: "no error"}
    return _table(
        "first_error",
        "The first wrong level, in percent of the images",
        [
            Column(f"first_error_{'none' if level == NO_ERROR else level}", name)
            for level, name in headings.items()
        ],
        cells,
        lambda cell: [cell.first_error.get(level) for level in headings],
    )


def calibration_table(cells: Iterable[CellResult]) -> Table:
    """How far stated confidence is from accuracy."""
    return _table(
        "calibration",
        "Expected calibration error over all levels, in percentage points",
        [Column("ece", "ECE")],
        cells,
        lambda cell: [cell.ece],
    )


_NUM_CONFUSIONS = 5


def confusions_table(results: Evaluation) -> Table:
    """The most frequent mistakes of every cell."""
    rows: list[list[Value]] = [
        [*cell.key[:3], results.rank(cell.key.dataset, each["level"]),
         each["truth_name"], each["prediction_name"], each["count"], each["share"]]
        for cell in results.plain_cells
        for each in cell.confusions[:_NUM_CONFUSIONS]
    ]  # fmt: skip
    names = ("dataset", "model", "paradigm", "level", "truth", "prediction")
    headings = [*names[:-1], "taken for"]
    return Table(
        "confusions",
        f"The {_NUM_CONFUSIONS} most frequent mistakes of each cell",
        [
            *map(Column, names, headings),
            Column("count", "times"),
            Column("share", "% of that truth"),
        ],
        len(names),
        rows,
        group_sizes(row[:3] for row in rows),
    )


def differences_table(results: Evaluation) -> Table:
    """Cells side by side on the same images."""
    shown = {"hca": "HCA", "leaf_accuracy": "leaf", "tice": "TICE"}
    rows: list[list[Value]] = [
        [
            each.a.dataset,
            cell_label(each.a),
            cell_label(each.b),
            *map(each.differences.get, shown),
            each.p_value,
        ]
        for each in results.comparisons
    ]
    columns = [
        Column(key, heading, has_interval=True, is_signed=True) for key, heading in shown.items()
    ]
    columns.append(Column("mcnemar_p", "McNemar p", digits=4, is_probability=True))
    names = [Column("dataset", "dataset"), Column("a", "first"), Column("b", "minus")]
    return Table(
        "differences",
        "Paired differences on the same images, in percentage points, with 95 % intervals",
        [*names, *columns],
        len(names),
        rows,
        group_sizes(row[0] for row in rows),
    ).shrunk()


def all_tables(results: Evaluation) -> list[Table]:
    """Every table but that of the controls; those without figures too."""
    cells = in_order(results)
    return [
        cells_table(cells, results.ranks),
        differences_table(results),
        path_metrics_table(cells),
        levels_table(cells, results.ranks),
        first_error_table(cells, results.ranks),
        calibration_table(cells),
        confusions_table(results),
        cost_table(results.plain_cells),
    ]


def in_order(results: Evaluation) -> list[CellResult]:
    """Cells by dataset, model and paradigm as evaluated, each with its controls behind it."""
    first_seen = {key._replace(control=NO_CONTROL): None for key in results.cells}
    datasets, models = results.datasets, results.models
    place = {key: index for index, key in enumerate(first_seen)}

    def rank(cell: CellResult) -> tuple[int, int, int, bool]:
        key = cell.key
        return (
            datasets.index(key.dataset),
            models.index(key.model),
            place[key._replace(control=NO_CONTROL)],
            key.control != NO_CONTROL,
        )

    return sorted(results.cells.values(), key=rank)


def cell_label(key: CellKey) -> str:
    """A cell in words, its dataset left out: "student, joint (blind)"."""
    control = "" if key.control == NO_CONTROL else f" ({key.control})"
    return f"{key.model}, {key.paradigm}{control}"


def level_headings(ranks: Ranks) -> dict[int, str]:
    """Level -> its name where all datasets agree on it, else "L1" and so on."""
    levels = sorted({level for names in ranks.values() for level in names})
    names = {level: {each[level] for each in ranks.values() if level in each} for level in levels}
    return {level: names[level].pop() if len(names[level]) == 1 else f"L{level}" for level in names}


def _table(
    name: str,
    title: str,
    columns: Sequence[Column],
    cells: Iterable[CellResult],
    figures: Callable[[CellResult], Sequence[Value]],
) -> Table:
    keys: list[CellKey] = []
    rows: list[Sequence[Value]] = []
    labels = {}
    for cell in cells:
        values = figures(cell)
        if any(value is not None for value in values):
            keys.append(cell.key)
            control = "" if cell.key.control == NO_CONTROL else cell.key.control
            rows.append([*cell.key[:3], control, *values])
            if cell.is_zero_shot:
                labels[cell.key.dataset] = f"{cell.key.dataset} (zero-shot)"
    names = [
        Column("dataset", "dataset", labels=labels),
        *(Column(name, name) for name in ("model", "paradigm", "control")),
    ]
    return Table(
        name,
        title,
        [*names, *columns],
        len(names),
        rows,
        group_sizes((key.dataset, key.model) for key in keys),
    ).shrunk()
