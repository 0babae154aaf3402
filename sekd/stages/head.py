"""From a final state to the distribution of the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

_LOGITS_AT_A_TIME = 1 << 22

# Shapes: N rows, D hidden size, V vocabulary, K top-k entries.


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
        self._scale: float = getattr(config, "logit_scale", None) or 1.0

    def logits(self, states_ND: Tensor) -> Tensor:
        """Logits [N, V] of final states, in the model's dtype."""
        weight = self._lm_head.weight
        logits_NV = self._lm_head(states_ND.to(weight.device, weight.dtype)) * self._scale
        if self._cap is not None:
            logits_NV = torch.tanh(logits_NV / self._cap) * self._cap
        return logits_NV

    @torch.inference_mode()
    def read(
        self, states_ND: Tensor, token_ids: Sequence[Sequence[int]], *, top_k: int
    ) -> Distributions:
        """Some of each row's distribution; memory does not grow with rows or vocabulary.

        Args:
            token_ids: per row, the tokens whose log-probability is wanted.
        """
        size = max(1, _LOGITS_AT_A_TIME // self._lm_head.weight.shape[0])
        logprobs: list[Tensor] = []
        top_ids, top_logprobs = [], []
        for start in range(0, len(states_ND), size):
            logits_NV = self.logits(states_ND[start : start + size]).float()
            logits_NV -= logits_NV.logsumexp(-1, keepdim=True)
            for row, ids in zip(logits_NV, token_ids[start : start + size], strict=True):
                logprobs.append(row[torch.tensor(ids, device=row.device)].cpu())
            top = logits_NV.topk(min(top_k, logits_NV.shape[-1]))
            top_ids.append(top.indices.cpu())
            top_logprobs.append(top.values.cpu())
        return Distributions(logprobs, torch.cat(top_ids), torch.cat(top_logprobs))
