"""The message of the gate says what a difference looks like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sekd.errors import ShardError
from sekd.stages.elicit.parity import ParityGate

NUM_ANSWERS, NUM_TOKENS, NUM_OPTIONS = 12, 500, 4


def logprobs_of(logits: np.ndarray, change: Any) -> list[np.ndarray]:
    changed = change(logits)
    normalised = changed - np.log(np.exp(changed).sum(-1, keepdims=True))
    return [row[:NUM_OPTIONS].astype(np.float32) for row in normalised]


def check(in_engine: list[np.ndarray], in_pass: list[np.ndarray]) -> None:
    answers = [
        SimpleNamespace(option_logprobs=logprobs, sample_id=f"s{number}", level=1)
        for number, logprobs in enumerate(in_engine)
    ]
    rows = [SimpleNamespace(option_logprobs=logprobs) for logprobs in in_pass]
    ParityGate.of("bfloat16", "float32", None).check(answers, rows, None)  # type: ignore[arg-type]


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 4, (NUM_ANSWERS, NUM_TOKENS))


@pytest.mark.parametrize("scale", [0.0625, 0.25, 8.0])
def test_another_logit_scale_is_named(logits: np.ndarray, scale: float) -> None:
    """As of Aya Vision, Cohere2 Vision and Granite, which vLLM scales and transformers does not."""
    in_engine = logprobs_of(logits, lambda values: values * scale)
    with pytest.raises(
        ShardError, match=rf"logits are {scale:.3g} times its own: .*; set elicit.engine: transf"
    ):
        check(in_engine, logprobs_of(logits, lambda values: values))


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: np.roll(logits, 1, axis=-1),
        lambda logits: logits + np.random.default_rng(1).normal(0, 1, logits.shape),
        lambda logits: np.tanh(logits / 2) * 2,
        lambda logits: -logits,
        lambda logits: logits * 0,
    ],
    ids=["shifted", "other", "capped", "turned", "flat"],
)
def test_other_differences_are_not_called_a_scale(logits: np.ndarray, change: Any) -> None:
    in_pass = logprobs_of(logits, lambda values: values)
    with pytest.raises(ShardError, match="disagrees with the engine: log-prob"):
        check(logprobs_of(logits, change), in_pass)


def test_the_same_logits_with_noise_pass(logits: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    in_engine = logprobs_of(logits, lambda values: values + rng.normal(0, 0.01, values.shape))
    check(in_engine, logprobs_of(logits, lambda values: values))
