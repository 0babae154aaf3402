"""Measure the gain of each round, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.comparison import paths_of_shared_samples
from sekd.analysis.estimates import Estimate
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import BoolArray
from sekd.analysis.rates import compute_differences
from sekd.analysis.results import Evaluation
from sekd.config import BASE, STUDENT, EvaluateSpec, Paradigm

# Shapes: N samples.


@dataclass(frozen=True)
class Gain:
    """HCA of a student, in what it learned, minus that of the model before it on the same images.

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

        There is one test over all images, because its interval is the narrowest, and because with a
        test for each dataset one of them would soon pass by chance. Not given by the paper.
        """
        return self.pooled.low <= 0

    def to_json(self) -> dict[str, Any]:
        """Return ``{"pooled": ..., "datasets": {...}}``."""
        return {"pooled": self.pooled.to_json(), "datasets": _rates_to_json(self.datasets)}


def measure_gain(
    after: Sequence[CellRows],
    before: Sequence[CellRows],
    before_name: str,
    spec: EvaluateSpec,
    paradigm: Paradigm = "joint",
) -> Gain:
    """Compare the student in ``after`` with the model before it.

    Args:
        before: cells of the same datasets.
        before_name: the name there of the model before the student.
        paradigm: in which they are compared.

    Raises:
        ValueError: if the two have no sample of a dataset in common.
    """
    old_cells = _cells_of(before, before_name, paradigm)
    is_right = {}
    for dataset, new_cell in _cells_of(after, STUDENT, paradigm).items():
        new, old = paths_of_shared_samples(new_cell.paths, old_cells[dataset].paths)
        is_right[dataset] = new.whole_is_right, old.whole_is_right
    new_N, old_N = (np.concatenate(arrays) for arrays in zip(*is_right.values(), strict=True))
    return Gain(
        _difference_of_shares(new_N, old_N, spec),
        {dataset: _difference_of_shares(*arrays, spec) for dataset, arrays in is_right.items()},
    )


def _cells_of(cells: Sequence[CellRows], model: str, paradigm: Paradigm) -> dict[str, CellRows]:
    """Return the cell without a control of each dataset."""
    return {
        cell.key.dataset: cell
        for cell in cells
        if cell.key == CellKey(cell.key.dataset, model, paradigm)
    }


def _difference_of_shares(new_N: BoolArray, old_N: BoolArray, spec: EvaluateSpec) -> Estimate:
    """Subtract the shares of the whole paths that are right."""
    difference = compute_differences(
        Outcomes.of_whole_paths(new_N),
        Outcomes.of_whole_paths(old_N),
        num_bootstrap=spec.num_bootstrap,
        seed=spec.seed,
    ).paths["hca"]
    assert difference is not None  # every sample counts
    return Estimate(difference.value, difference.low, difference.high)


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """One finished round; rates in percent, by dataset.

    Attributes:
        adapter: the student's; ``None`` in round 0, which is the base.
        learned: HCA of the student, or of the base in round 0, in ``paradigm``.
        conditioned: the same step by step, where that is evaluated: HCA of the next round's
            teacher.
        gain: ``None`` in round 0 and where nothing is evaluated.
        paradigm: that asks for what the student learned.
    """

    number: int
    adapter: Path | None
    learned: Mapping[str, Estimate]
    conditioned: Mapping[str, Estimate]
    gain: Gain | None
    paradigm: Paradigm = "joint"

    @classmethod
    def of(
        cls,
        number: int,
        adapter: Path | None,
        evaluation: Evaluation | None,
        gain: Gain | None,
        paradigm: Paradigm = "joint",
    ) -> RoundResult:
        """Take the rates of a round from its evaluation, if there is one."""
        model = STUDENT if adapter else BASE

        def rates(asked: str) -> dict[str, Estimate]:
            if evaluation is None:
                return {}
            by_dataset = {
                dataset: evaluation.rate(dataset, model, asked) for dataset in evaluation.datasets
            }
            return {dataset: rate for dataset, rate in by_dataset.items() if rate}

        return cls(
            number=number,
            adapter=adapter,
            learned=rates(paradigm),
            conditioned=rates("conditioned"),
            gain=gain,
            paradigm=paradigm,
        )

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``rounds`` in ``rounds.json``."""
        return {
            "round": self.number,
            "adapter": str(self.adapter) if self.adapter else None,
            self.paradigm: _rates_to_json(self.learned),
            "conditioned": _rates_to_json(self.conditioned),
            "gain": self.gain.to_json() if self.gain else None,
        }


def best_round(rounds: Sequence[RoundResult]) -> RoundResult:
    """Return the last round that gained or was not measured; round 0 if there is no such round."""
    return next(
        finished
        for finished in reversed(rounds)
        if finished.gain is None or not finished.gain.is_noise
    )


def _rates_to_json(rates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {dataset: rate.to_json() for dataset, rate in rates.items()}
