"""The table of gains and losses on general benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from sekd.analysis.benchmark import BenchmarkRow
from sekd.analysis.estimates import Estimate
from sekd.report.table import Column, Table, Value


def benchmark_table(rows: Sequence[BenchmarkRow]) -> Table:
    """Show one line per metric, in the units of the task."""
    return Table(
        name="benchmark",
        title="Change from base to student, with its paired bootstrap 95 % interval",
        columns=[
            Column("task", "task"),
            Column("metric", "metric"),
            Column("num_samples", "samples"),
            Column("base", "base", digits=4, is_significant=True),
            Column("student", "student", digits=4, is_significant=True),
            Column(
                "change",
                "change",
                has_interval=True,
                digits=3,
                interval_digits=3,
                is_significant=True,
                is_signed=True,
            ),
            Column("verdict", "", is_text=True),
        ],
        num_names=2,
        rows=[_benchmark_values(row) for row in rows],
        groups=[len(rows)],
    )


def _benchmark_values(row: BenchmarkRow) -> list[Value]:
    metric = row.metric
    if row.filter != "none":
        metric += f", {row.filter}"
    if row.higher_is_better is False:
        metric += " (lower is better)"
    change: Value = row.change
    if row.change is not None and row.low is not None and row.high is not None:
        change = Estimate(row.change, row.low, row.high)
    verdict: str | None = row.verdict
    if verdict is None and row.no_interval is not None:
        verdict = f"no interval: {row.no_interval}"
    return [row.task, metric, row.num_samples, row.base, row.student, change, verdict]
