"""The table of the rounds: the base and each round's student."""

from __future__ import annotations

from collections.abc import Sequence

from sekd.analysis.rounds import RoundResult
from sekd.report.table import Column, Table, Value, count_groups


def rounds_table(rounds: Sequence[RoundResult]) -> Table:
    """Show the base and each round's student by dataset, and the gain over all datasets."""
    paradigm = rounds[0].paradigm
    datasets = list(rounds[0].learned)
    rows: list[list[Value]] = []
    for dataset in datasets:
        for finished in rounds:
            gain = finished.gain.datasets[dataset] if finished.gain else None
            conditioned = finished.conditioned.get(dataset)
            rows.append([dataset, finished.number, finished.learned[dataset], conditioned, gain])
    if len(datasets) > 1:
        rows += [
            ["all images", finished.number, None, None, finished.gain.pooled]
            for finished in rounds
            if finished.gain
        ]
    return Table(
        name="rounds",
        title="HCA in percent of the base (round 0) and of each round's student; gain: "
        f"{paradigm}, over the round before, points",
        columns=[
            Column("dataset", "dataset"),
            Column("round", "round"),
            Column(paradigm, paradigm, has_interval=True),
            Column("conditioned", "conditioned", has_interval=True),
            Column("gain", "gain", has_interval=True, is_signed=True),
        ],
        num_names=2,
        rows=rows,
        groups=count_groups(row[0] for row in rows),
    )
