"""Rounds: what each student gained over the one before it, and whether to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sekd.config import BASE, STUDENT, EvaluateSpec, RunConfig
from sekd.data.paths import BoolArray, paths_of
from sekd.data.predictions import NO_CONTROL
from sekd.stages.evaluate.diagnosis import over_shared
from sekd.stages.evaluate.metrics import Estimate, Outcomes, score_difference
from sekd.stages.evaluate.summary import Result
from sekd.stages.report.results import Results
from sekd.stages.report.table import Column, Table, Value, group_sizes

# Shapes: N samples.


def round_config(config: RunConfig, number: int, adapter: Path | None) -> RunConfig:
    """The config of one round, counted from 1; the first is that of the run itself.

    Args:
        adapter: of the student of the round before, which answers now and is trained further.
    """
    if number == 1:
        return config
    return config.model_copy(
        update={
            "run_dir": config.run_dir / "rounds" / str(number),
            "elicit": config.elicit.model_copy(update={"adapter": adapter}),
            "distill": config.distill.model_copy(update={"initial_adapter": adapter}),
            "rounds": 1,
        }
    )


@dataclass(frozen=True)
class Gain:
    """Joint HCA of a student less that of the model before it, on the same images.

    In percentage points, with paired bootstrap intervals.

    Attributes:
        pooled: over the images of all datasets together.
        datasets: by dataset.
    """

    pooled: Estimate
    datasets: Mapping[str, Estimate]

    @property
    def is_noise(self) -> bool:
        """The rule by which rounds stop: the pooled interval does not lie above zero.

        One test over all images, for its interval is the narrowest, and with a test for each
        dataset one of them would soon pass by chance. Not given by the paper.
        """
        return self.pooled.low <= 0


def gain_of(
    after: Sequence[Result], before: Sequence[Result], before_name: str, spec: EvaluateSpec
) -> Gain:
    """What the student in ``after`` gained.

    Args:
        before: of the same datasets; ``before_name`` is the model's name there.

    Raises:
        ValueError: if the two have no sample of a dataset in common.
    """
    rights = {}
    old = _joint(before, before_name)
    for dataset, new in _joint(after, STUDENT).items():
        a, b = over_shared(
            paths_of(new.rows, new.taxonomy), paths_of(old[dataset].rows, new.taxonomy)
        )
        rights[dataset] = a.whole_is_right, b.whole_is_right
    pooled = [np.concatenate(side) for side in zip(*rights.values(), strict=True)]
    return Gain(
        _difference(pooled[0], pooled[1], spec),
        {dataset: _difference(*pair, spec) for dataset, pair in rights.items()},
    )


def _joint(results: Sequence[Result], model: str) -> dict[str, Result]:
    wanted = {"model": model, "paradigm": "joint", "control": NO_CONTROL}
    return {each.names["dataset"]: each for each in results if wanted.items() <= each.names.items()}


def _difference(a_N: BoolArray, b_N: BoolArray, spec: EvaluateSpec) -> Estimate:
    """Of the shares that are right: each path is scored as one level."""
    both = [
        Outcomes(
            correct=right_N[:, None],
            parsed=np.ones((len(right_N), 1), dtype=np.bool_),
            num_levels=np.ones(len(right_N), dtype=np.int64),
            off_tree=np.zeros(len(right_N), dtype=np.bool_),
        )
        for right_N in (a_N, b_N)
    ]
    found = score_difference(*both, num_bootstrap=spec.num_bootstrap, seed=spec.seed)["hca"]
    return Estimate(found["value"], found["low"], found["high"])


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
        cls, number: int, adapter: Path | None, results: Results | None, gain: Gain | None
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
