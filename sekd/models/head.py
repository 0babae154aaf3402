"""Compute distributions of the next token from final states, without logits of a whole sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from sekd.errors import ConfigError

_MAX_ROWS, _MAX_VOCABULARY = 256, 1 << 14
"""Size of the largest block of logits in memory: rows, and tokens of the vocabulary."""

# Shapes: N rows, D hidden size, V vocabulary or a block of it, L requested tokens, K top-k entries.


@dataclass(frozen=True)
class NextTokenDistributions:
    """Parts of N distributions over the vocabulary, on the CPU.

    Attributes:
        logprobs: per row, float32 [num_tokens], log-probabilities of the requested tokens.
        top_ids_NK: int64, the most probable tokens, best first.
        top_logprobs_NK: float32, their log-probabilities.
    """

    logprobs: list[Tensor]
    top_ids_NK: Tensor
    top_logprobs_NK: Tensor


@dataclass(frozen=True)
class LogitTransform:
    """Changes the output of ``lm_head`` as a model's forward does: ``cap * tanh(scale * x / cap)``.

    Attributes:
        scale: a factor (Cohere, Granite, Muse Glimmer).
        cap: the soft cap behind it (Gemma); ``None`` for ``scale * x``.
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Apply it to each value; the shape stays."""
        if self.scale != 1.0:
            values = values * self.scale
        if self.cap is not None:
            values = torch.tanh(values / self.cap) * self.cap
        return values

    @classmethod
    @torch.inference_mode()
    def measure(cls, model: PreTrainedModel) -> LogitTransform:
        """Find it by the model's own forward, which is given values in place of lm_head's output.

        The config would not tell: Aya Vision's text config has a scale that its forward does not
        apply, and PaliGemma 2's has such a cap.

        Raises:
            ConfigError: if the forward does anything else to these values.
        """
        lm_head, num_tokens = (
            model.get_output_embeddings(),
            model.config.get_text_config().vocab_size,
        )
        device = next(model.parameters()).device
        small, huge = 2.0**-7, 2.0**20
        values = torch.linspace(-200, 200, num_tokens, device=device)
        values[:2] = torch.tensor([small, huge])
        handle = lm_head.register_forward_hook(lambda *_: values[None, None].clone())
        try:
            logits = model(input_ids=torch.ones(1, 1, dtype=torch.int64, device=device)).logits
        finally:
            handle.remove()
        found = logits.flatten().float()
        scale, largest = float(found[0]) / small, float(found[1])
        is_capped = abs(largest) < 0.5 * abs(scale) * huge
        transform = cls(scale, cap=largest if is_capped else None)
        if found.shape != values.shape or not torch.allclose(
            transform(values), found, rtol=1e-3, atol=1e-4
        ):
            raise ConfigError(
                f"{type(model).__name__} changes its logits behind lm_head by more than a scale "
                "and a soft cap, so that stored states would not give back its distributions"
            )
        return transform


class LMHead:
    """``lm_head`` and what a model's forward does to its output.

    Args:
        lm_head: the output embeddings of a model.
        transform: see :meth:`LogitTransform.measure`.

    Attributes:
        transform: the same.
    """

    def __init__(self, lm_head: nn.Module, transform: LogitTransform) -> None:
        self._lm_head: Any = lm_head
        self.transform = transform

    @classmethod
    def of(cls, model: PreTrainedModel) -> LMHead:
        """Take the head of a model.

        Raises:
            ConfigError: as :meth:`LogitTransform.measure`.
        """
        return cls(model.get_output_embeddings(), LogitTransform.measure(model))

    def logits(self, states_ND: Tensor) -> Tensor:
        """Compute logits [N, V] in float32 of final states [N, D] of any floating-point dtype."""
        weight = self._lm_head.weight
        logits_NV: Tensor = self._lm_head(states_ND.to(weight.device, weight.dtype))
        return self.transform(logits_NV.float())

    @torch.inference_mode()
    def distributions(
        self, states_ND: Tensor, token_ids: Sequence[Sequence[int]], *, top_k: int
    ) -> NextTokenDistributions:
        """Compute parts of each row's distribution, block by block over rows and vocabulary.

        Memory grows neither with the rows nor, for a plain linear ``lm_head``, with the vocabulary.

        Args:
            states_ND: final states, of any floating-point dtype.
            token_ids: per row, the tokens whose log-probability is requested; at least one.
            top_k: number of the most probable tokens to return.
        """
        parts = [
            self._row_distributions(
                states_ND[start : start + _MAX_ROWS], token_ids[start : start + _MAX_ROWS], top_k
            )
            for start in range(0, len(states_ND), _MAX_ROWS)
        ]
        return NextTokenDistributions(
            [logprobs for part in parts for logprobs in part.logprobs],
            torch.cat([part.top_ids_NK for part in parts]),
            torch.cat([part.top_logprobs_NK for part in parts]),
        )

    def _row_distributions(
        self, states_ND: Tensor, token_ids: Sequence[Sequence[int]], top_k: int
    ) -> NextTokenDistributions:
        """Compute what :meth:`distributions` does, for at most ``_MAX_ROWS`` rows."""
        weight = self._lm_head.weight
        states_ND = states_ND.to(weight.device, weight.dtype)
        ids_NL = _pad_with_first(token_ids).to(weight.device)
        logits_NL = torch.zeros(ids_NL.shape, device=weight.device)
        log_sum_N = torch.full((len(states_ND),), -torch.inf, device=weight.device)
        top_logits_NK = torch.empty(len(states_ND), 0, device=weight.device)
        top_ids_NK = torch.empty(len(states_ND), 0, dtype=torch.int64, device=weight.device)
        # A quantised weight has no rows that could be sliced.
        width = _MAX_VOCABULARY if type(self._lm_head) is nn.Linear else weight.shape[0]
        for start in range(0, weight.shape[0], width):
            block_NV = self._block_logits(states_ND, start, width)
            log_sum_N = torch.logaddexp(log_sum_N, block_NV.logsumexp(-1))
            columns_NL = ids_NL - start
            is_in_block_NL = (columns_NL >= 0) & (columns_NL < block_NV.shape[1])
            gathered_NL = block_NV.gather(1, columns_NL.clamp(0, block_NV.shape[1] - 1))
            logits_NL = torch.where(is_in_block_NL, gathered_NL, logits_NL)
            block_top = block_NV.topk(min(top_k, block_NV.shape[1]))
            top_logits_NK = torch.cat([top_logits_NK, block_top.values], dim=1)
            top_ids_NK = torch.cat([top_ids_NK, block_top.indices + start], dim=1)
            top = top_logits_NK.topk(min(top_k, top_logits_NK.shape[1]))
            top_logits_NK, top_ids_NK = top.values, top_ids_NK.gather(1, top.indices)
        logprobs_NL = (logits_NL - log_sum_N[:, None]).cpu()
        return NextTokenDistributions(
            [row[: len(ids)] for row, ids in zip(logprobs_NL, token_ids, strict=True)],
            top_ids_NK.cpu(),
            (top_logits_NK - log_sum_N[:, None]).cpu(),
        )

    def _block_logits(self, states_ND: Tensor, start: int, width: int) -> Tensor:
        """Compute float32 logits [N, V] of ``width`` tokens of the vocabulary from ``start``."""
        if type(self._lm_head) is not nn.Linear:
            return self.logits(states_ND)
        tokens = slice(start, start + width)
        bias = None if self._lm_head.bias is None else self._lm_head.bias[tokens]
        logits_NV = functional.linear(states_ND, self._lm_head.weight[tokens], bias)
        return self.transform(logits_NV.float())


def _pad_with_first(token_ids: Sequence[Sequence[int]]) -> Tensor:
    """Stack rows of token ids to int64 [N, L]; a shorter row is filled up with its first id."""
    length = max(len(ids) for ids in token_ids)
    rows = [[*ids, *(ids[0] for _ in range(length - len(ids)))] for ids in token_ids]
    return torch.tensor(rows)
