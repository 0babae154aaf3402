"""What a student gained over the model before it, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sekd.analysis.diagnosis import over_shared
from sekd.analysis.metrics import Estimate, Outcomes, score_difference
from sekd.analysis.paths import BoolArray, paths_of
from sekd.analysis.summary import CellRows
from sekd.config import STUDENT, EvaluateSpec
from sekd.data.predictions import NO_CONTROL

# Shapes: N samples.


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
    after: Sequence[CellRows], before: Sequence[CellRows], before_name: str, spec: EvaluateSpec
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


def _joint(results: Sequence[CellRows], model: str) -> dict[str, CellRows]:
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
