"""The engine of ``sekd plan``: it answers right, without a model, and counts tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sekd.engines.base import Answer, Ask, Conversation, Reply, Request, Response, Result
from sekd.engines.driver import run_one_by_one
from sekd.engines.kv_cache import (
    CachedRow,
    ConversationPrompt,
    find_prefixes,
    rows_of,
    shared_prefixes,
)
from sekd.models.batching import Batcher
from sekd.models.chat import Chat


class RehearsalEngine:
    """Answers right, or at random without a label; counts tokens as the transformers engine does.

    Everything but the model is real: images go through the processor, so prompts have their true
    length, and what a prompt shares with the last ones of its conversation counts as cached.

    Args:
        supports_prefix_reuse: whether the engine that is rehearsed continues its cache; without it
            every prompt is computed from its beginning.

    Attributes:
        image_shifts: key of an image -> the number of tokens that it takes beyond its placeholder.
    """

    name, version = "rehearsal", ""

    def __init__(self, chat: Chat, *, supports_prefix_reuse: bool = True) -> None:
        self._chat = chat
        self._supports_prefix_reuse = supports_prefix_reuse
        self._batcher = Batcher(chat)
        self._rows: list[CachedRow] = []
        self.image_shifts: dict[str, int] = {}
        self._rng = np.random.default_rng(0)

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """See :class:`~sekd.engines.base.Engine`."""
        for conversation in conversations:
            self._rows = []
            yield from run_one_by_one([conversation], self._respond)

    def close(self) -> None:
        """Do nothing: there is no model."""

    def _respond(self, requests: Sequence[Request]) -> list[Response]:
        asks = [request for request in requests if isinstance(request, Ask)]
        answers = iter(self._answer(asks) if asks else [])
        return [
            next(answers)
            if isinstance(request, Ask)
            else Reply((request.stop_id,) * request.max_new_tokens, 0, 0)  # the longest reply
            for request in requests
        ]

    def _answer(self, asks: Sequence[Ask]) -> list[Answer]:
        prompts = [ConversationPrompt(0, request.prompt) for request in asks]
        num_shared = 0
        if self._supports_prefix_reuse and len(asks) > 1:
            (num_shared,) = self._compute(shared_prefixes(prompts))
        counts = self._compute(prompts)
        counts[0] += num_shared
        answers = []
        for request, row, count in zip(asks, self._rows, counts, strict=True):
            logprobs = -self._rng.exponential(size=len(request.option_ids)).astype(np.float32)
            if request.right is not None:
                logprobs[request.right] = 0.0
            num_cached = row.num_tokens - count
            answers.append(Answer(int(logprobs.argmax()), logprobs, row.num_tokens, num_cached))
        return answers

    def _compute(self, prompts: Sequence[ConversationPrompt]) -> list[int]:
        """Take these prompts as the last ones; returns how many tokens of each are not cached."""
        prefixes = find_prefixes(self._rows, prompts) if self._supports_prefix_reuse else None
        batches = [
            self._batcher([prompt.token_ids], [prompt.image], [prompt.image_key])
            for _, prompt in prompts
        ]
        self._rows = [
            row
            for prompt, batch in zip(prompts, batches, strict=True)
            for row in rows_of(self._chat, [prompt], batch)
        ]
        for (_, prompt), batch in zip(prompts, batches, strict=True):
            self.image_shifts[prompt.image_key] = batch.shifts[0]
        if prefixes is None:
            return [row.num_tokens for row in self._rows]
        pairs = zip(self._rows, prefixes, strict=True)
        return [len(row.token_ids) - prefix.num_ids for row, prefix in pairs]
