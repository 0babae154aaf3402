"""The parity gate: the state pass must see the same distributions as the engine.

It makes two comparisons over a shard:

- The options' log-probabilities in the state pass against those in the engine. They differ after a
  dropped image, a shifted position, another template or another checkpoint.
- The log-probabilities that the *stored* final states give back against those in the state pass.
  They differ for a state from before the norm, and for a dtype that is too coarse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sekd.config import DType, StateDType
from sekd.data.signals import StateRow, TeacherAnswer
from sekd.errors import ShardError

# Kernels differ between engines, most of all in half precision. Measured between the two engines on
# the same model: 4e-5 in float32, and below 0.02 on average in bfloat16. The limits leave a margin.
_LIMITS: Mapping[DType, float] = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}
_STORAGE_LIMITS: Mapping[StateDType, float] = {"float32": 0.01, "bfloat16": 0.05, "float8": 0.5}
_WORST = 20.0
"""A single answer may differ by this multiple of the limit of the mean."""

# Shapes: N answers.


@dataclass(frozen=True)
class ParityGate:
    """Limits of a shard's mean difference in log-probability; see ``elicit.parity_limit``.

    Attributes:
        limit: between the engine and the state pass.
        storage_limit: between the state pass and the stored final states.
    """

    limit: float
    storage_limit: float

    @classmethod
    def of(cls, dtype: DType, state_dtype: StateDType, limit: float | None) -> ParityGate:
        """Take the limits for these dtypes; a ``limit`` replaces that for the engine."""
        return cls(_LIMITS[dtype] if limit is None else limit, _STORAGE_LIMITS[state_dtype])

    def check(
        self,
        answers: Sequence[TeacherAnswer],
        rows: Sequence[StateRow],
        restored: Sequence[NDArray[np.float32]] | None,
    ) -> dict[str, float]:
        """Compare a shard; return its mean and largest difference and how often the top-1 agrees.

        Args:
            rows: of the state pass, in the order of the answers.
            restored: per answer, the options' log-probabilities from the stored final states;
                ``None`` where final states are not stored.

        Raises:
            ShardError: if a limit is exceeded; the message names the worst answer.
        """
        in_engine = [answer.option_logprobs for answer in answers]
        in_pass = [row.option_logprobs for row in rows]
        parity_N = _differences(in_engine, in_pass)
        problem = "the state pass disagrees with the engine"
        scale = _logit_scale(in_engine, in_pass, self.limit)
        if scale is not None:
            problem += (
                f", whose logits are {scale:.3g} times its own: vLLM and transformers differ about "
                "the logit scale of some models; set elicit.engine: transformers"
            )
        _check_limit(parity_N, self.limit, answers, problem)
        is_same_top1 = [
            int(engine.argmax()) == int(state_pass.argmax())
            for engine, state_pass in zip(in_engine, in_pass, strict=True)
        ]
        stats = {
            "parity_mean": float(parity_N.mean()),
            "parity_max": float(parity_N.max()),
            "parity_top1": float(np.mean(is_same_top1)),
        }
        if restored is not None:
            storage_N = _differences(in_pass, restored)
            problem = "stored final states do not give back what the state pass saw"
            _check_limit(storage_N, self.storage_limit, answers, problem)
            stats["storage_max"] = float(storage_N.max())
        return stats


def _check_limit(
    differences_N: NDArray[np.float64],
    limit: float,
    answers: Sequence[TeacherAnswer],
    problem: str,
) -> None:
    mean, largest = differences_N.mean(), differences_N.max()
    if mean <= limit and largest <= _WORST * limit:  # never true of NaN
        return
    worst = answers[int(np.nan_to_num(differences_N, nan=np.inf).argmax())]
    raise ShardError(
        f"{problem}: log-probabilities of the options differ by {mean:.2g} on average and "
        f"{largest:.2g} at most, the limits are {limit:g} (elicit.parity_limit) and "
        f"{_WORST * limit:g}; worst is sample {worst.sample_id}, level {worst.level}"
    )


def _logit_scale(
    in_engine: Sequence[NDArray[np.float32]], in_pass: Sequence[NDArray[np.float32]], limit: float
) -> float | None:
    """Return the factor that explains nine tenths of the difference in logits, if there is one.

    Differences between the log-probabilities of two options are differences between their logits,
    so a factor shows in them, whatever the rest of the vocabulary is.
    """
    engine_N = np.concatenate([logprobs - logprobs.mean() for logprobs in in_engine])
    pass_N = np.concatenate([logprobs - logprobs.mean() for logprobs in in_pass])
    scale = float(engine_N @ pass_N / max(float(pass_N @ pass_N), 1e-12))
    difference = np.abs(engine_N - pass_N).mean()
    unexplained = np.abs(engine_N - scale * pass_N).mean()
    is_explained = limit < difference and unexplained <= 0.1 * difference
    return scale if is_explained and scale > 0 else None


def _differences(
    logprobs: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Return [N], per answer the mean absolute difference over its options.

    All options count, because a confident teacher's own letter hardly moves whatever goes wrong.
    """
    return np.array(
        [
            np.abs(one - other).mean(dtype=np.float64)
            for one, other in zip(logprobs, others, strict=True)
        ]
    )
