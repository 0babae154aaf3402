"""From a final state to the distribution of the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

_ROWS, _COLUMNS = 256, 1 << 14
"""Logits that are there at a time: rows by tokens of the vocabulary."""

# Shapes: N rows, D hidden size, V vocabulary, L tokens asked for, K top-k entries.


@dataclass(frozen=True)
class Distributions:
    """What was asked of N distributions over the vocabulary, in float32 on the CPU.

    Attributes:
        logprobs: per row, log-probabilities of the tokens asked for.
        top_ids_NK, top_logprobs_NK: the most probable tokens, best first.
    """

    logprobs: list[Tensor]
    top_ids_NK: Tensor
    top_logprobs_NK: Tensor


class Head:
    """``lm_head`` and what a model's forward does to its output.

    A cap (Gemma) or a scale (Cohere) behind ``lm_head`` is applied as the text config names it; a
    model that does anything else there is found out by the parity gate.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        self._lm_head = model.get_output_embeddings()
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._scale: float | None = getattr(config, "logit_scale", None)

    def logits(self, states_ND: Tensor) -> Tensor:
        """Logits [N, V] of final states, in the model's dtype."""
        weight = self._lm_head.weight
        return self._finish(self._lm_head(states_ND.to(weight.device, weight.dtype)))

    def _finish(self, logits: Tensor) -> Tensor:
        if self._scale is not None:
            logits = logits * self._scale
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    @torch.inference_mode()
    def read(
        self, states_ND: Tensor, token_ids: Sequence[Sequence[int]], *, top_k: int
    ) -> Distributions:
        """Some of each row's distribution, block by block over the vocabulary.

        Memory grows neither with the rows nor, for a plain linear ``lm_head``, with the vocabulary.

        Args:
            token_ids: per row, the tokens whose log-probability is wanted.
        """
        parts = [
            self._read(states_ND[start : start + _ROWS], token_ids[start : start + _ROWS], top_k)
            for start in range(0, len(states_ND), _ROWS)
        ]
        return Distributions(
            [row for part in parts for row in part.logprobs],
            torch.cat([part.top_ids_NK for part in parts]),
            torch.cat([part.top_logprobs_NK for part in parts]),
        )

    def _read(
        self, states_ND: Tensor, token_ids: Sequence[Sequence[int]], top_k: int
    ) -> Distributions:
        weight = self._lm_head.weight
        num_tokens = weight.shape[0]
        states_ND = states_ND.to(weight.device, weight.dtype)
        longest = max(len(ids) for ids in token_ids)
        padded = [[*ids, *[ids[0]] * (longest - len(ids))] for ids in token_ids]
        ids_NL = torch.tensor(padded, device=weight.device)
        wanted_NL = torch.zeros(ids_NL.shape, device=weight.device)
        total_N = torch.full((len(states_ND),), -torch.inf, device=weight.device)
        top_NK = torch.empty(len(states_ND), 0, device=weight.device)
        top_ids_NK = torch.empty(len(states_ND), 0, dtype=torch.int64, device=weight.device)
        is_plain = type(self._lm_head) is nn.Linear  # a quantised one has no rows to take
        width = _COLUMNS if is_plain else num_tokens
        for start in range(0, num_tokens, width):
            if is_plain:
                bias = self._lm_head.bias
                rows = slice(start, start + width)
                logits = functional.linear(
                    states_ND, weight[rows], None if bias is None else bias[rows]
                )
                block_NV = self._finish(logits).float()
            else:
                block_NV = self.logits(states_ND).float()
            total_N = torch.logaddexp(total_N, block_NV.logsumexp(-1))
            at_NL = ids_NL - start
            is_here_NL = (at_NL >= 0) & (at_NL < block_NV.shape[1])
            here_NL = block_NV.gather(1, at_NL.clamp(0, block_NV.shape[1] - 1))
            wanted_NL = torch.where(is_here_NL, here_NL, wanted_NL)
            best = block_NV.topk(min(top_k, block_NV.shape[1]))
            top_NK = torch.cat([top_NK, best.values], dim=1)
            top_ids_NK = torch.cat([top_ids_NK, best.indices + start], dim=1)
            kept = top_NK.topk(min(top_k, top_NK.shape[1]))
            top_NK, top_ids_NK = kept.values, top_ids_NK.gather(1, kept.indices)
        wanted_NL = (wanted_NL - total_N[:, None]).cpu()
        return Distributions(
            [row[: len(ids)] for row, ids in zip(wanted_NL, token_ids, strict=True)],
            top_ids_NK.cpu(),
            (top_NK - total_N[:, None]).cpu(),
        )
