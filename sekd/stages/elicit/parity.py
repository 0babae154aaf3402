"""The parity gate: what the state pass saw must be what the engine saw.

Two comparisons over a shard. The state pass's log-probabilities of the options against the
engine's: a dropped image, a shifted position, another template or checkpoint shows here. And those
that the *stored* final states give back against the pass's own: a state from before the norm, or a
dtype that is too coarse, shows there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sekd.config import DType, StateDType
from sekd.data.signals import StateRow, TeacherAnswer
from sekd.errors import ShardError

# Half-precision kernels differ between engines; the figures are those of the two engines on the
# same model, with room: 4e-5 in float32, below 0.02 on average in bfloat16.
_LIMITS: Mapping[DType, float] = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}
_STORAGE_LIMITS: Mapping[StateDType, float] = {"float32": 0.01, "bfloat16": 0.05, "float8": 0.5}
_WORST = 20.0
"""A single answer may differ by so many times the limit of the mean."""

# Shapes: N answers.


@dataclass(frozen=True)
class ParityGate:
    """Limits of the mean difference in log-probability; see ``elicit.parity_limit``."""

    limit: float
    storage_limit: float

    @classmethod
    def of(cls, dtype: DType, state_dtype: StateDType, limit: float | None) -> ParityGate:
        """The limits for these dtypes, or the user's own for the engine."""
        return cls(_LIMITS[dtype] if limit is None else limit, _STORAGE_LIMITS[state_dtype])

    def check(
        self,
        answers: Sequence[TeacherAnswer],
        rows: Sequence[StateRow],
        restored: Sequence[NDArray[np.float32]] | None,
    ) -> dict[str, float]:
        """Figures of a shard: mean and largest difference, and how often the best option agrees.

        Args:
            rows: of the state pass, in the order of the answers.
            restored: per answer, the options' log-probabilities from the stored final states;
                ``None`` where those are not stored.

        Raises:
            ShardError: if a limit is passed; the worst answer is named.
        """
        seen = [row.option_logprobs for row in rows]
        engine = _differences([answer.option_logprobs for answer in answers], seen)
        self._hold(engine, self.limit, answers, "the state pass disagrees with the engine")
        agreed = [
            int(answer.option_logprobs.argmax()) == int(values.argmax())
            for answer, values in zip(answers, seen, strict=True)
        ]
        figures = {
            "parity_mean": float(engine.mean()),
            "parity_max": float(engine.max()),
            "parity_top1": float(np.mean(agreed)),
        }
        if restored is not None:
            storage = _differences(seen, restored)
            self._hold(
                storage, self.storage_limit, answers, "stored final states do not give back what "
                "the state pass saw"
            )  # fmt: skip
            figures["storage_max"] = float(storage.max())
        return figures

    def _hold(
        self,
        differences_N: NDArray[np.float64],
        limit: float,
        answers: Sequence[TeacherAnswer],
        what: str,
    ) -> None:
        mean, largest = differences_N.mean(), differences_N.max()
        if mean <= limit and largest <= _WORST * limit:  # never true of NaN
            return
        worst = answers[int(np.nan_to_num(differences_N, nan=np.inf).argmax())]
        raise ShardError(
            f"{what}: log-probabilities of the options differ by {mean:.2g} on average and "
            f"{largest:.2g} at most, the limits are {limit:g} (elicit.parity_limit) and "
            f"{_WORST * limit:g}; worst is sample {worst.sample_id}, level {worst.level}"
        )


def _differences(
    one: Sequence[NDArray[np.float32]], other: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """[N], mean over each answer's options.

    All of them, for a confident teacher's own letter hardly moves whatever goes wrong.
    """
    return np.array([np.abs(a - b).mean(dtype=np.float64) for a, b in zip(one, other, strict=True)])
