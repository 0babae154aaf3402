"""The table of the rounds: the base and each round's student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.analysis.gains import Gain
from sekd.analysis.metrics import Estimate
from sekd.analysis.results import Evaluation
from sekd.config import BASE, STUDENT
from sekd.report.table import Column, Table, Value, group_sizes


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round that is done; rates in percent, by dataset.

    Attributes:
        adapter: the student's.
        joint: HCA of the student; of the base in round 0.
        conditioned: the same step by step, where that is evaluated: of the next round's teacher.
        gain: ``None`` where nothing is evaluated.
    """

    number: int
    adapter: Path | None
    joint: Mapping[str, Estimate]
    conditioned: Mapping[str, Estimate]
    gain: Gain | None

    @classmethod
    def of(
        cls, number: int, adapter: Path | None, results: Evaluation | None, gain: Gain | None
    ) -> Round:
        """The figures of a round, or of the base where there is no adapter."""
        model = STUDENT if adapter else BASE

        def rates(paradigm: str) -> dict[str, Estimate]:
            if results is None:
                return {}
            found = {name: results.rate(name, model, paradigm) for name in results.datasets}
            return {name: rate for name, rate in found.items() if rate}

        return cls(
            number=number,
            adapter=adapter,
            joint=rates("joint"),
            conditioned=rates("conditioned"),
            gain=gain,
        )

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""

        def by_dataset(rates: Mapping[str, Estimate]) -> dict[str, Any]:
            return {dataset: rate.to_json() for dataset, rate in rates.items()}

        gain = self.gain and {
            "pooled": self.gain.pooled.to_json(),
            "datasets": by_dataset(self.gain.datasets),
        }
        return {
            "round": self.number,
            "adapter": str(self.adapter) if self.adapter else None,
            "joint": by_dataset(self.joint),
            "conditioned": by_dataset(self.conditioned),
            "gain": gain,
        }


def best_of(rounds: Sequence[Round]) -> Round:
    """The last round that gained, or was not measured; round 0 where none did."""
    return next(each for each in reversed(rounds) if not (each.gain and each.gain.is_noise))


def rounds_table(rounds: Sequence[Round]) -> Table:
    """The base and each round's student, by dataset; where there are several, their pooled gain."""
    datasets = list(rounds[0].joint)
    lines: list[Sequence[Value]] = [
        [
            dataset,
            each.number,
            each.joint[dataset],
            each.conditioned.get(dataset),
            each.gain.datasets[dataset] if each.gain else None,
        ]
        for dataset in datasets
        for each in rounds
    ]
    if len(datasets) > 1:
        lines += [
            ["all images", each.number, None, None, each.gain.pooled]
            for each in rounds
            if each.gain
        ]
    return Table(
        "rounds",
        "HCA in percent of the base (round 0) and of each round's student; gain: joint, over the "
        "round before, points",
        [
            Column("dataset", "dataset"),
            Column("round", "round"),
            Column("joint", "joint", has_interval=True),
            Column("conditioned", "conditioned", has_interval=True),
            Column("gain", "gain", has_interval=True, is_signed=True),
        ],
        2,
        lines,
        group_sizes(line[0] for line in lines),
    )
