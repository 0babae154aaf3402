"""Compute distributions of the next token from final states, without logits of a whole sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

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


class LMHead:
    """``lm_head`` and what a model's forward does to its output.

    A cap (Gemma) or a scale (Cohere) behind ``lm_head`` is applied as the text config names it. If
    a model does anything else there, the parity gate detects it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        self._lm_head = model.get_output_embeddings()
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._scale: float | None = getattr(config, "logit_scale", None)

    def logits(self, states_ND: Tensor) -> Tensor:
        """Compute logits [N, V] of final states [N, D], in the model's dtype."""
        weight = self._lm_head.weight
        return self._cap_and_scale(self._lm_head(states_ND.to(weight.device, weight.dtype)))

    def _cap_and_scale(self, logits_NV: Tensor) -> Tensor:
        if self._scale is not None:
            logits_NV = logits_NV * self._scale
        if self._cap is not None:
            logits_NV = torch.tanh(logits_NV / self._cap) * self._cap
        return logits_NV

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
            return self.logits(states_ND).float()
        tokens = slice(start, start + width)
        bias = None if self._lm_head.bias is None else self._lm_head.bias[tokens]
        logits_NV = functional.linear(states_ND, self._lm_head.weight[tokens], bias)
        return self._cap_and_scale(logits_NV).float()


def _pad_with_first(token_ids: Sequence[Sequence[int]]) -> Tensor:
    """Stack rows of token ids to int64 [N, L]; a shorter row is filled up with its first id."""
    length = max(len(ids) for ids in token_ids)
    rows = [[*ids, *(ids[0] for _ in range(length - len(ids)))] for ids in token_ids]
    return torch.tensor(rows)
