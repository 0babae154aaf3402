"""The engine of ``sekd plan``: it answers at random, without a model, and counts tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sekd.engines.base import Answer, Ask, Conversation, Reply, Request, Response, Result
from sekd.engines.driver import run_one_by_one
from sekd.models.batching import Batcher
from sekd.models.chat import Chat


class RehearsalEngine:
    """Answers at random, and counts the tokens as an engine with a prefix cache does.

    Everything but the model is real: images go through the processor, so prompts have their true
    length. Within a conversation the tokens of the last question count as cached.
    """

    name, version = "rehearsal", ""

    def __init__(self, chat: Chat) -> None:
        self._batcher = Batcher(chat)
        self._num_cached_tokens = 0
        self._rng = np.random.default_rng(0)

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """See :class:`~sekd.engines.base.Engine`."""
        for conversation in conversations:
            self._num_cached_tokens = 0
            yield from run_one_by_one([conversation], self._respond)

    def close(self) -> None:
        """Do nothing: there is no model."""

    def _respond(self, requests: Sequence[Request]) -> list[Response]:
        return [
            self._answer(request)
            if isinstance(request, Ask)
            else Reply((request.stop_id,) * request.max_new_tokens, 0, 0)  # the longest reply
            for request in requests
        ]

    def _answer(self, request: Ask) -> Answer:
        prompt = request.prompt
        batch = self._batcher([prompt.token_ids], [prompt.image], [prompt.image_key])
        num_prompt_tokens = batch.lengths[0]
        logprobs = -self._rng.exponential(size=len(request.option_ids)).astype(np.float32)
        answer = Answer(
            int(logprobs.argmax()), logprobs, num_prompt_tokens, self._num_cached_tokens
        )
        self._num_cached_tokens = num_prompt_tokens
        return answer
