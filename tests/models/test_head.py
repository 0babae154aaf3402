"""The head reads off stored states what the model's own forward computes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sekd.errors import ConfigError
from sekd.models.head import LMHead, LogitTransform


class FinishingModel(nn.Module):
    """A model of one layer that changes its logits."""

    def __init__(self, finish: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.lm_head = nn.Linear(4, 300, bias=False)
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=300))
        self._finish = finish

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, input_ids: Tensor) -> Any:
        return SimpleNamespace(logits=self._finish(self.lm_head(torch.ones(*input_ids.shape, 4))))


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (lambda logits: logits, LogitTransform()),
        (lambda logits: logits.float(), LogitTransform()),
        (lambda logits: logits * 0.25, LogitTransform(scale=0.25)),
        (lambda logits: logits / 6, LogitTransform(scale=1 / 6)),
        (lambda logits: 30 * torch.tanh(logits / 30), LogitTransform(cap=30.0)),
        (lambda logits: 2 * torch.tanh(logits / 2), LogitTransform(cap=2.0)),
        (lambda logits: 20 * torch.tanh(logits * 0.5 / 20), LogitTransform(0.5, cap=20.0)),
    ],
)
def test_a_scale_and_a_cap_are_measured(
    finish: Callable[[Tensor], Tensor], expected: LogitTransform
) -> None:
    model = FinishingModel(finish)
    measured = LogitTransform.measure(model)
    assert measured.scale == pytest.approx(expected.scale, rel=1e-5)
    assert measured.cap == (None if expected.cap is None else pytest.approx(expected.cap, rel=1e-5))
    states = 5 * torch.randn(3, 4)
    torch.testing.assert_close(LMHead.of(model).logits(states), finish(model.lm_head(states)))


@pytest.mark.parametrize(
    "finish",
    [
        lambda logits: logits.log_softmax(-1),
        lambda logits: logits + 1,
        lambda logits: logits.clamp(-50, 50),
        lambda logits: logits.masked_fill(torch.arange(300) == 7, -torch.inf),
        lambda logits: logits[..., :200],
    ],
    ids=["normalised", "shifted", "clamped", "masked", "cut"],
)
def test_anything_else_is_refused(finish: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ConfigError, match="FinishingModel changes its logits behind lm_head"):
        LogitTransform.measure(FinishingModel(finish))


def test_memory_does_not_grow_with_the_vocabulary() -> None:
    """No tensor [rows, vocabulary] is made for 4,000 rows and a vocabulary of 50,000."""
    lm_head = torch.nn.Linear(8, 50_000, bias=False)
    head = LMHead(lm_head, LogitTransform(scale=0.5, cap=3.0))
    states = torch.randn(4_000, 8)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        seen = head.distributions(states, [(5, 7)] * 4_000, top_k=3)
    assert largest <= 1 << 22
    expected = (3 * torch.tanh(lm_head(states[-1]) / 6)).log_softmax(-1)
    torch.testing.assert_close(seen.logprobs[-1], expected[[5, 7]])
    torch.testing.assert_close(seen.top_logprobs_NK[-1], expected.topk(3).values)
