"""What an elicitation will cost, from a rehearsal: the real dialogues, without the model.

A few samples go through everything but the engine: their images through the model's processor,
every turn through its chat template, the rows into files. An actor stands in for the teacher.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.engines import Answer, Ask, Conversation, Reply
from sekd.engines.base import Request, Response, Result
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.batching import Batcher
from sekd.models.chat import Chat
from sekd.stages.elicit.answers import AnswersWorker

NUM_PROBED = 32


@dataclass(frozen=True)
class CostEstimate:
    """Sums over all samples, extrapolated from those that were probed.

    Attributes:
        num_unusable: samples that will be quarantined, as many as in proportion to the probe.
        num_answers: questions put to the teacher.
        num_tokens: of the finished dialogues, images included; what the engine computes if it
            keeps what it has seen, and the state pass computes once more.
        num_prompt_tokens: over all turns, as an engine without a prefix cache would compute them.
        num_bytes: of the files that will be written.
        flops: floating-point operations of both passes: 2 per parameter and token.
    """

    num_samples: int
    num_probed: int
    num_unusable: int
    num_answers: int
    num_tokens: int
    num_prompt_tokens: int
    num_bytes: int
    flops: float


def estimate_cost(config: RunConfig, dataset: Dataset) -> CostEstimate:
    """Rehearse evenly spread samples and extrapolate; nothing is written but temporary files.

    Raises:
        ConfigError: if none of the probed samples can be used, or what elicitation itself raises.
    """
    num_samples = len(dataset.samples)
    step = max(1, num_samples // NUM_PROBED)
    probe = replace(dataset, samples=dataset.samples[::step][:NUM_PROBED])
    spec = config.elicit.model_copy(update={"max_quarantined": 1.0})
    chat = Chat(
        loading.load_processor(config.model),
        subject=dataset.spec.subject,
        answer=config.elicit.answer,
    )
    worker = AnswersWorker(config.model_copy(update={"elicit": spec}), probe, engine=_Actor(chat))
    shard = Shard(0, tuple(sample.id for sample in probe.samples))
    with tempfile.TemporaryDirectory() as folder:
        result = worker.process(shard, Path(folder), lambda _: None)
        num_bytes = sum(path.stat().st_size for path in result.files.values())
    if not result.num_done:
        raise ConfigError(
            f"data.{dataset.name}: none of {len(probe.samples)} samples can be used; the first is "
            f"{result.quarantined[0].sample_id}: {result.quarantined[0].reason}"
        )
    num_prompt_tokens = result.stats["num_prompt_tokens"]
    num_tokens = num_prompt_tokens - result.stats["num_cached_tokens"]
    num_answers = result.stats["num_answers"]
    width, num_parameters = _size(config)
    state_bytes = getattr(torch, config.elicit.state_dtype).itemsize * width
    num_bytes += num_answers * len(config.elicit.layers) * state_bytes
    factor = num_samples / len(probe.samples)
    return CostEstimate(
        num_samples=num_samples,
        num_probed=len(probe.samples),
        num_unusable=round(len(result.quarantined) * factor),
        num_answers=round(num_answers * factor),
        num_tokens=round(num_tokens * factor),
        num_prompt_tokens=round(num_prompt_tokens * factor),
        num_bytes=round(num_bytes * factor),
        flops=2 * 2.0 * num_parameters * num_tokens * factor,
    )


def _size(config: RunConfig) -> tuple[int, int]:
    """Width of the decoder and number of parameters; no weight is loaded."""
    model = loading.meta_model(config.model)
    return model.config.get_text_config().hidden_size, model.num_parameters()


class _Actor:
    """An engine that answers by chance and counts tokens."""

    name, version = "actor", ""

    def __init__(self, chat: Chat) -> None:
        self._batcher = Batcher(chat, with_token_types=False)
        self._num_seen = 0
        self._chance = np.random.default_rng(0)

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        for conversation in conversations:
            self._num_seen = 0
            try:
                requests = next(conversation)
                while True:
                    requests = conversation.send([self._respond(each) for each in requests])
            except StopIteration as end:
                yield end.value

    def _respond(self, request: Request) -> Response:
        if isinstance(request, Ask):
            return self._answer(request)
        return Reply((request.stop_id,) * request.max_new_tokens, 0, 0)  # as long as it may be

    def _answer(self, request: Ask) -> Answer:
        prompt = request.prompt
        (length,) = self._batcher([prompt.token_ids], [prompt.image], [prompt.image_key]).lengths
        num_seen, self._num_seen = self._num_seen, length
        logprobs = -self._chance.exponential(size=len(request.option_ids)).astype(np.float32)
        return Answer(int(logprobs.argmax()), logprobs, length, num_seen)

    def close(self) -> None:
        pass
