"""A cache of the keys and values of earlier prompts, for the transformers engine.

Rows of a batch differ in length, so a row's columns have holes: padding between cached and added
tokens. An attention mask hides the holes, and explicit positions do not count them. A row may be
continued from any prefix of it, and more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from sekd.engines.base import Prompt
from sekd.models.batching import Batch
from sekd.models.chat import Chat, TokenIds

# Shapes: N rows, H heads, C columns of the cache, T new tokens, D head size.


class ConversationPrompt(NamedTuple):
    """A prompt, and the conversation that it belongs to."""

    conversation_id: int
    prompt: Prompt


class CachedPrefix(NamedTuple):
    """The beginning of a prompt that a row of the cache already holds.

    Attributes:
        row: index of the row.
        num_ids: length of the common beginning, in ids with one image placeholder.
    """

    row: int
    num_ids: int


@dataclass(frozen=True)
class CachedRow:
    """The prompt whose keys and values one row of the cache holds.

    Attributes:
        conversation_id: the conversation that it belongs to.
        token_ids: the prompt, with one image placeholder.
        num_image_prefix_ids: ids up to and including the placeholder, which cannot be split.
        image_shift: the number of tokens that the image takes beyond its placeholder.
        rope_delta: the position of a token behind the image minus its index; it is not zero for
            mRoPE, which gives an image fewer positions than tokens.
    """

    conversation_id: int
    token_ids: TokenIds
    num_image_prefix_ids: int
    image_shift: int
    rope_delta: int = 0

    @property
    def num_tokens(self) -> int:
        """Length of the prompt with the image expanded."""
        return len(self.token_ids) + self.image_shift


def find_prefix(
    rows: Sequence[CachedRow], conversation_id: int, prompt: Prompt
) -> CachedPrefix | None:
    """Find the row of this conversation that shares the longest beginning with the prompt.

    Returns ``None`` if no row of it shares the image, or any token of a prompt without one.
    """
    # The last token must be computed again for its logits.
    longest = len(prompt.token_ids) - 1
    prefixes = [
        CachedPrefix(index, min(common_prefix_length(row.token_ids, prompt.token_ids), longest))
        for index, row in enumerate(rows)
        if row.conversation_id == conversation_id
    ]
    best = max(prefixes, key=lambda prefix: prefix.num_ids, default=None)
    if best is None or best.num_ids < max(rows[best.row].num_image_prefix_ids, 1):
        return None
    return best


def find_prefixes(
    rows: Sequence[CachedRow], prompts: Sequence[ConversationPrompt]
) -> list[CachedPrefix] | None:
    """Find the prefix of each prompt; ``None`` if one of them has none."""
    prefixes = []
    for conversation_id, prompt in prompts:
        prefix = find_prefix(rows, conversation_id, prompt)
        if prefix is None:
            return None
        prefixes.append(prefix)
    return prefixes


def rows_of(chat: Chat, prompts: Sequence[ConversationPrompt], batch: Batch) -> list[CachedRow]:
    """Describe the rows of a batch of whole prompts."""
    return [
        CachedRow(
            conversation_id,
            prompt.token_ids,
            num_image_prefix_ids=len(chat.image_prefix_ids) if prompt.image else 0,
            image_shift=shift,
        )
        for (conversation_id, prompt), shift in zip(prompts, batch.shifts, strict=True)
    ]


def shared_prefixes(prompts: Sequence[ConversationPrompt]) -> list[ConversationPrompt]:
    """Find what all prompts of each conversation begin with, so that it is computed only once."""
    by_conversation: dict[int, list[ConversationPrompt]] = {}
    for prompt in prompts:
        by_conversation.setdefault(prompt.conversation_id, []).append(prompt)
    shared = []
    for conversation_id, conversation_prompts in by_conversation.items():
        first, *others = (prompt for _, prompt in conversation_prompts)
        lengths = [common_prefix_length(first.token_ids, other.token_ids) for other in others]
        # The last token of a prompt is computed for its own logits, also where prompts are equal.
        all_but_last = [len(prompt.token_ids) - 1 for _, prompt in conversation_prompts]
        length = min(lengths + all_but_last)
        prefix = replace(first, token_ids=first.token_ids[:length])
        shared.append(ConversationPrompt(conversation_id, prefix))
    return shared


class PrefixKVCache:
    """The keys and values of one batch of prompts; continuing the prompts makes a new cache.

    Attributes:
        cache: the cache of transformers, which the model's forward fills.
        rows: one entry per prompt.
    """

    def __init__(self, cache: DynamicCache, rows: Sequence[CachedRow], is_token_NC: Tensor) -> None:
        self.cache = cache
        self.rows = rows
        self._is_token_NC = is_token_NC

    @classmethod
    def for_batch(
        cls,
        model: PreTrainedModel,
        chat: Chat,
        prompts: Sequence[ConversationPrompt],
        batch: Batch,
    ) -> PrefixKVCache:
        """Make an empty cache for the forward pass over a batch padded on the right."""
        rows = rows_of(chat, prompts, batch)
        cache = DynamicCache(config=model.config.get_text_config())
        return cls(cache, rows, batch.inputs["attention_mask"].bool().to(model.device))

    def record_rope_deltas(self, model: PreTrainedModel) -> None:
        """Record how far images moved positions, after the forward pass over a whole batch."""
        deltas = getattr(model.base_model, "rope_deltas", None)
        if deltas is not None and any(row.image_shift for row in self.rows):
            self.rows = [
                replace(row, rope_delta=int(delta))
                for row, delta in zip(self.rows, deltas.flatten().tolist(), strict=True)
            ]

    def continue_with(
        self, prompts: Sequence[ConversationPrompt], prefixes: Sequence[CachedPrefix]
    ) -> tuple[PrefixKVCache, dict[str, Tensor], list[int]]:
        """Prepare a forward pass over the tokens of these prompts that are not cached.

        Args:
            prefixes: per prompt, what :func:`find_prefix` returned for these rows.

        Returns:
            The cache for that pass with one row per prompt; its inputs: ``input_ids`` and
            ``position_ids`` int64 [N, T] and ``attention_mask`` int64 [N, C + T]; and the number of
            new tokens per prompt.
        """
        device = self._is_token_NC.device
        rows = [
            replace(self.rows[prefix.row], token_ids=prompt.token_ids)
            for (_, prompt), prefix in zip(prompts, prefixes, strict=True)
        ]
        num_kept_N = torch.tensor(
            [prefix.num_ids + self.rows[prefix.row].image_shift for prefix in prefixes],
            device=device,
        )
        row_indices_N = torch.tensor([prefix.row for prefix in prefixes], device=device)
        cache, is_token_NC = self._select(row_indices_N, num_kept_N)
        new_ids = [
            torch.tensor(prompt.token_ids[prefix.num_ids :])
            for (_, prompt), prefix in zip(prompts, prefixes, strict=True)
        ]
        num_new = [len(ids) for ids in new_ids]
        new_ids_NT = pad_sequence(new_ids, batch_first=True).to(device)
        steps_T = torch.arange(new_ids_NT.shape[1], device=device)
        is_new_NT = steps_T < torch.tensor(num_new, device=device)[:, None]
        is_token_NC = torch.cat([is_token_NC, is_new_NT], dim=1)
        deltas_N = torch.tensor([row.rope_delta for row in rows], device=device)
        inputs = {
            "input_ids": new_ids_NT,
            "attention_mask": is_token_NC.long(),
            "position_ids": (num_kept_N + deltas_N)[:, None] + steps_T,
        }
        return PrefixKVCache(cache, rows, is_token_NC), inputs, num_new

    def _select(self, row_indices_N: Tensor, num_kept_N: Tensor) -> tuple[DynamicCache, Tensor]:
        """Select the first ``num_kept_N`` tokens of these rows.

        Nothing is copied if all rows stay as they are. Otherwise the selected columns are moved to
        the front, without holes.

        Returns:
            The selected cache, and whether each of its columns holds a token, bool [N, C].
        """
        is_token_NC = self._is_token_NC[row_indices_N]
        is_kept_NC = is_token_NC & (is_token_NC.cumsum(1) <= num_kept_N[:, None])
        cache = copy(self.cache)
        cache.layers = [copy(layer) for layer in self.cache.layers]
        all_rows_N = torch.arange(len(self.rows), device=row_indices_N.device)
        has_same_rows = torch.equal(row_indices_N, all_rows_N)
        if has_same_rows and torch.equal(is_kept_NC, self._is_token_NC):
            return cache, is_kept_NC
        width = int(num_kept_N.max())
        # A stable sort by "is not kept" puts the kept columns first, in their order.
        columns_NC = (~is_kept_NC).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        for layer in cache.layers:
            assert isinstance(layer, DynamicLayer)
            assert layer.keys is not None
            assert layer.values is not None
            layer.keys = _take_columns(layer.keys, row_indices_N, columns_NC)
            layer.values = _take_columns(layer.values, row_indices_N, columns_NC)
        return cache, torch.arange(width, device=num_kept_N.device) < num_kept_N[:, None]


def _take_columns(states_NHCD: Tensor, row_indices_N: Tensor, columns_NC: Tensor) -> Tensor:
    return states_NHCD[row_indices_N[:, None], :, columns_NC].transpose(1, 2)


def common_prefix_length(first: TokenIds, second: TokenIds) -> int:
    """Count the ids at the beginning that two prompts share."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    return next(index for index in range(length) if first[index] != second[index])
