"""An engine as published scripts are: one call of ``generate`` for each question and image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from sekd.config import ModelSpec
from sekd.engines import Answer, Conversation
from sekd.engines.driver import run_one_by_one
from sekd.models.batching import Batcher, forward_arguments, to_device
from sekd.models.chat import Chat
from sekd.models.loading import free_memory, load_model


class GenerateEngine:
    """Calls ``generate`` per level and image, as published scripts do, each time with the image."""

    name, version = "generate", ""

    def __init__(self, spec: ModelSpec, chat: Chat) -> None:
        self._model = load_model(spec)
        self._chat = chat

    def run(self, conversations: Iterator[Conversation[Any]]) -> Iterator[Any]:
        return run_one_by_one(conversations, lambda requests: list(map(self._answer, requests)))

    def _answer(self, request: Any) -> Answer:
        prompt = request.prompt
        # A new batcher has no cached image.
        batcher = Batcher(self._chat, forward_arguments(self._model))
        batch = batcher([prompt.token_ids], [prompt.image], [prompt.image_key])
        output = self._model.generate(
            **to_device(batch.inputs, self._model),
            max_new_tokens=1,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        logprobs_V = output.scores[0][0].float().log_softmax(-1).cpu()
        logprobs = logprobs_V[torch.tensor(request.option_ids)].numpy()
        return Answer(int(logprobs.argmax()), logprobs, batch.lengths[0], 0)

    def close(self) -> None:
        del self._model
        free_memory()
