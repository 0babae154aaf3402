"""The sweep as a table: the base, the base as the teacher, and a line for each variant."""

from __future__ import annotations

from collections.abc import Sequence

from sekd.analysis.sweep import FORGOTTEN, SweepResult, SweepRow
from sekd.config import BASE
from sekd.report.table import Column, Table, Value, count_groups


def sweep_table(sweep: SweepResult) -> Table:
    """Show one row per dataset and variant, below the base and the base as the teacher."""
    evaluation = sweep.evaluation
    is_single = has_single_seeds(sweep.rows)
    rows: list[list[Value]] = []
    for dataset in evaluation.datasets:
        rows += _reference_rows(sweep, dataset, is_single)
        rows += [_variant_row(row, is_single) for row in sweep.rows if row.dataset == dataset]
    spread = (
        "with its 95 % interval over images"
        if is_single
        else "the mean over seeds, the lowest and the highest"
    )
    labels = {dataset: evaluation.title(dataset) for dataset in evaluation.datasets}
    return Table(
        name="sweep",
        title=f"{sweep.paradigm.capitalize()} HCA in percent, {spread}; "
        f"{' and '.join(FORGOTTEN)}: HCA minus the base's, points",
        columns=[
            Column("dataset", "dataset", labels=labels),
            Column("variant", "variant"),
            Column("num_seeds", "seeds"),
            Column("hca", "HCA", has_interval=is_single),
            Column("hca_lowest", "lowest"),
            Column("hca_highest", "highest"),
            Column("parse_failure_rate", "unparsed"),
            *(Column(f"{paradigm}_difference", paradigm, is_signed=True) for paradigm in FORGOTTEN),
            Column("num_failed", "failed"),
        ],
        num_names=2,
        rows=rows,
        groups=count_groups(row[0] for row in rows),
    ).without_empty_columns()


def has_single_seeds(rows: Sequence[SweepRow]) -> bool:
    """Tell whether every variant has one seed, so that intervals are over images, not seeds."""
    return all(len(row.hca) <= 1 for row in rows)


def _reference_rows(sweep: SweepResult, dataset: str, is_single: bool) -> list[list[Value]]:
    rows: list[list[Value]] = []
    for name, rate in sweep.references(dataset).items():
        unparsed = sweep.evaluation.rate(dataset, BASE, sweep.asked[name], "parse_failure_rate")
        rows.append(
            [
                dataset,
                name,
                None,  # seeds
                rate if is_single else rate.value,
                None,  # lowest
                None,  # highest
                unparsed.value if unparsed else None,
                *(None for _ in FORGOTTEN),
                None,  # failed
            ]
        )
    return rows


def _variant_row(row: SweepRow, is_single: bool) -> list[Value]:
    rate = row.over_seeds
    hca: list[Value] = [rate, None, None]
    if rate and not is_single:
        hca = [rate.value, rate.low, rate.high]
    return [
        row.dataset,
        row.variant,
        len(row.hca),
        *hca,
        row.parse_failure_rate,
        *(row.forgotten.get(paradigm) for paradigm in FORGOTTEN),
        row.num_failed or None,
    ]
