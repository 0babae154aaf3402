"""Keys and values of prompts that were computed before, for the transformers engine.

Rows of a batch differ in length, so a row's columns have holes: padding between what was there and
what was added. An attention mask hides them, and positions are given explicitly, counted without
them. A row may be continued from any shorter prefix of it, and several times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from sekd.engines.base import Prompt
from sekd.models.batching import Batch
from sekd.models.chat import Chat, TokenIds

# Shapes: N rows, H heads, C columns of the cache, T new tokens, D head size.


@dataclass(frozen=True)
class CachedRow:
    """What one row of the cache holds.

    Attributes:
        owner: the conversation it belongs to.
        token_ids: with one image placeholder.
        num_head: tokens up to and with the placeholder, which cannot be taken apart.
        shift: how many tokens the image takes beyond its placeholder.
        delta: how far positions behind the image are from counting tokens (mRoPE gives an image
            fewer positions than tokens).
    """

    owner: int
    token_ids: TokenIds
    num_head: int
    shift: int
    delta: int = 0

    @property
    def length(self) -> int:
        """Tokens, the image expanded."""
        return len(self.token_ids) + self.shift


def is_reusable(model: PreTrainedModel) -> bool:
    """Whether the model's cache keeps every column, so that a row may have holes.

    Sliding windows and recurrent states count columns, holes included; such models compute anew.
    """
    layers = DynamicCache(config=model.config.get_text_config()).layers
    return all(type(layer) is DynamicLayer for layer in layers)


class PrefixKVCache:
    """The cache of one batch. It is never changed: going on makes another one."""

    def __init__(self, cache: DynamicCache, rows: Sequence[CachedRow], is_token_NC: Tensor) -> None:
        self.cache, self.rows, self._is_token_NC = cache, rows, is_token_NC

    @classmethod
    def begin(
        cls,
        model: PreTrainedModel,
        chat: Chat,
        prompts: Sequence[tuple[int, Prompt]],
        batch: Batch,
    ) -> PrefixKVCache:
        """For the first forward pass over a batch padded on the right."""
        cache = DynamicCache(config=model.config.get_text_config())
        rows = [
            CachedRow(
                owner, prompt.token_ids, len(chat.image_prefix_ids) if prompt.image else 0, shift
            )
            for (owner, prompt), shift in zip(prompts, batch.shifts, strict=True)
        ]
        return cls(cache, rows, batch.inputs["attention_mask"].bool().to(model.device))

    def note_positions(self, model: PreTrainedModel) -> None:
        """Remember how far images moved positions, after the first forward pass."""
        deltas = getattr(model.base_model, "rope_deltas", None)
        if deltas is not None and any(row.shift for row in self.rows):
            self.rows = [
                replace(row, delta=int(delta))
                for row, delta in zip(self.rows, deltas.flatten().tolist(), strict=True)
            ]

    def parent(self, owner: int, prompt: Prompt) -> tuple[int, int] | None:
        """The row of this owner that a prompt is best continued from, and how many ids they share.

        ``None`` where there is none that holds the image.
        """
        most = len(prompt.token_ids) - 1  # the last one must be computed for its logits
        shared = {
            index: min(common_length(row.token_ids, prompt.token_ids), most)
            for index, row in enumerate(self.rows)
            if row.owner == owner
        }
        index = max(shared, key=shared.__getitem__, default=None)
        if index is None or shared[index] < max(self.rows[index].num_head, 1):
            return None
        return index, shared[index]

    def continued(
        self, prompts: Sequence[tuple[int, Prompt]], parents: Sequence[tuple[int, int]]
    ) -> tuple[PrefixKVCache, dict[str, Tensor], list[int]]:
        """A memory for the next forward pass, its inputs, and the number of new tokens per row.

        Args:
            parents: per prompt, as :meth:`parent` gave it.
        """
        device = self._is_token_NC.device
        rows = [
            replace(self.rows[index], token_ids=prompt.token_ids)
            for (_, prompt), (index, _) in zip(prompts, parents, strict=True)
        ]
        kept_N = torch.tensor(
            [length + self.rows[index].shift for index, length in parents], device=device
        )
        indices_N = torch.tensor([index for index, _ in parents], device=device)
        cache, is_token_NC = self._selected(indices_N, kept_N)
        tails = [
            torch.tensor(prompt.token_ids[length:])
            for (_, prompt), (_, length) in zip(prompts, parents, strict=True)
        ]
        counts = [len(tail) for tail in tails]
        new_NT = pad_sequence(tails, batch_first=True).to(device)
        steps_T = torch.arange(new_NT.shape[1], device=device)
        is_new_NT = steps_T < torch.tensor(counts, device=device)[:, None]
        mask_NC = torch.cat([is_token_NC, is_new_NT], dim=1)
        deltas_N = torch.tensor([row.delta for row in rows], device=device)
        inputs = {
            "input_ids": new_NT,
            "attention_mask": mask_NC.long(),
            "position_ids": (kept_N + deltas_N)[:, None] + steps_T,
        }
        return PrefixKVCache(cache, rows, mask_NC), inputs, counts

    def _selected(self, indices_N: Tensor, kept_N: Tensor) -> tuple[DynamicCache, Tensor]:
        """A cache of these rows' first ``kept`` tokens, and which of its columns [N, C] they are.

        Nothing is copied where all rows go on as they are; else holes are left out.
        """
        is_token_NC = self._is_token_NC[indices_N]
        is_kept_NC = is_token_NC & (is_token_NC.cumsum(1) <= kept_N[:, None])
        everyone = torch.arange(len(self.rows), device=indices_N.device)
        if torch.equal(indices_N, everyone) and torch.equal(is_kept_NC, self._is_token_NC):
            order_NC = None
        else:
            width = int(kept_N.max())
            order_NC = (~is_kept_NC).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
            is_kept_NC = torch.arange(width, device=kept_N.device) < kept_N[:, None]
        cache = copy(self.cache)
        cache.layers = [copy(layer) for layer in self.cache.layers]
        for layer in cache.layers:
            assert isinstance(layer, DynamicLayer)
            assert layer.keys is not None
            assert layer.values is not None
            if order_NC is not None:
                layer.keys = _take(layer.keys, indices_N, order_NC)
                layer.values = _take(layer.values, indices_N, order_NC)
        return cache, is_kept_NC


def _take(states_NHCD: Tensor, indices_N: Tensor, order_NC: Tensor) -> Tensor:
    return states_NHCD[indices_N[:, None], :, order_NC].transpose(1, 2)


def common_length(one: TokenIds, other: TokenIds) -> int:
    """Number of ids at the start that two prompts share."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
