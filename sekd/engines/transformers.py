"""The engine that runs anywhere: transformers, batched, with what earlier turns computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Generic

import torch
import transformers
from peft import PeftModel
from torch import Tensor

from sekd.config import ModelSpec
from sekd.engines.base import (
    Answer,
    Ask,
    Conversation,
    Prompt,
    Reply,
    Request,
    Response,
    Result,
    Write,
)
from sekd.engines.kv_cache import PrefixKVCache, common_length, is_reusable
from sekd.errors import SampleError
from sekd.models.batching import AdaptiveBatchSize, Batcher, to_device
from sekd.models.chat import Chat
from sekd.models.hooks import logits_at
from sekd.models.loading import forward_accepts, free_memory, load_model

_BATCHES_AHEAD = 4
"""Conversations are sorted by length over so many batches."""

# Shapes: N rows, V vocabulary.


@dataclass(eq=False)
class _Talk(Generic[Result]):
    """A conversation and what it wants to know now."""

    conversation: Conversation[Result]
    requests: Sequence[Request]


class TransformersEngine:
    """Conversations of one batch advance together; each turn computes its new tokens only.

    A batch that does not fit into memory is halved, and later batches stay so.
    """

    name = "transformers"
    version = transformers.__version__

    def __init__(
        self, spec: ModelSpec, chat: Chat, *, adapter: Path | None, batch_size: int
    ) -> None:
        self._chat = chat
        self._batch = AdaptiveBatchSize(batch_size)
        base = load_model(spec)
        self._lm_head = base.get_output_embeddings()
        self._batcher = Batcher(chat, with_token_types=forward_accepts(base, "mm_token_type_ids"))
        self._eos_ids = _as_list(base.generation_config.eos_token_id)
        self._base, self._remembers = base, is_reusable(base)
        self._model: Any = base
        if adapter is not None:
            self._model = PeftModel.from_pretrained(base, str(adapter)).eval()

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """See :class:`~sekd.engines.base.Engine`."""
        waiting = iter(conversations)
        while pool := list(islice(waiting, _BATCHES_AHEAD * self._batch.size)):
            talks: list[_Talk[Result]] = []
            for conversation in pool:
                try:
                    talks.append(_Talk(conversation, next(conversation)))
                except StopIteration as end:
                    yield end.value
            for _, alike in groupby(sorted(talks, key=_size), key=lambda talk: _size(talk)[0]):
                while batch := list(islice(alike, self._batch.size)):
                    yield from self._drive(batch, None)

    def close(self) -> None:
        """Free the model."""
        del self._model, self._base, self._lm_head
        free_memory()

    def _drive(self, talks: list[_Talk[Result]], memory: PrefixKVCache | None) -> Iterator[Result]:
        """These conversations to their end; ``memory`` holds what was computed of them."""
        while talks:
            num_rows = sum(len(talk.requests) for talk in talks)
            done = None
            if num_rows <= self._batch.size or len(talks) == 1:
                respond = partial(self._respond, talks, memory)
                done = self._batch.attempt(respond, num_rows)
            if done is None and len(talks) > 1:
                middle = len(talks) // 2
                yield from self._drive(talks[:middle], memory)
                yield from self._drive(talks[middle:], memory)
                return
            going_on = []
            for index, talk in enumerate(talks):
                try:
                    if done is None:
                        talk.requests = talk.conversation.throw(_too_large(talk))
                    else:
                        talk.requests = talk.conversation.send(done[0][index])
                    going_on.append(talk)
                except StopIteration as end:
                    yield end.value
            memory = done[1] if done else None
            talks = going_on

    @torch.inference_mode()
    def _respond(
        self, talks: Sequence[_Talk[Any]], memory: PrefixKVCache | None
    ) -> tuple[list[list[Response]], PrefixKVCache | None]:
        requests = [(id(talk), request) for talk in talks for request in talk.requests]
        asks = [(owner, request) for owner, request in requests if isinstance(request, Ask)]
        writes = [request for _, request in requests if isinstance(request, Write)]
        answers: list[Answer] = []
        if asks:
            memory, answers = self._answer(asks, memory)
        of_kind: dict[type, Iterator[Response]] = {
            Ask: iter(answers),
            Write: iter(self._write(writes) if writes else []),
        }
        responses = [[next(of_kind[type(each)]) for each in talk.requests] for talk in talks]
        return responses, memory

    def _answer(
        self, asks: Sequence[tuple[int, Ask]], memory: PrefixKVCache | None
    ) -> tuple[PrefixKVCache, list[Answer]]:
        prompts = [(owner, request.prompt) for owner, request in asks]
        num_shared: dict[int, int] = {}
        if self._remembers and len({owner for owner, _ in asks}) < len(asks):
            shared = _shared(prompts)
            memory, _, counts = self._extend(shared, memory)
            num_shared = {owner: n for (owner, _), n in zip(shared, counts, strict=True)}
        memory, logits_NV, counts = self._extend(prompts, memory)
        logprobs_NV = logits_NV.float().log_softmax(-1).cpu()
        answers = []
        for row, (owner, request) in enumerate(asks):
            options = logprobs_NV[row, torch.tensor(request.option_ids)].numpy()
            length = memory.rows[row].length
            num_new = counts[row] + num_shared.pop(owner, 0)  # counted with its first question
            answers.append(Answer(int(options.argmax()), options, length, length - num_new))
        return memory, answers

    def _extend(
        self, prompts: Sequence[tuple[int, Prompt]], memory: PrefixKVCache | None
    ) -> tuple[PrefixKVCache, Tensor, list[int]]:
        """Compute what memory lacks of these prompts.

        Returns:
            A memory with one row per prompt, logits [N, V] of the token that comes next, and the
            number of tokens computed for each.
        """
        parents = [memory.parent(owner, prompt) for owner, prompt in prompts] if memory else [None]
        if memory is not None and self._remembers and None not in parents:
            known = [parent for parent in parents if parent is not None]
            memory, inputs, counts = memory.continued(prompts, known)
            last_N = torch.tensor(counts) - 1
        else:
            batch = self._batcher(
                [prompt.token_ids for _, prompt in prompts],
                [prompt.image for _, prompt in prompts],
                [prompt.image_key for _, prompt in prompts],
            )
            memory, inputs = (
                PrefixKVCache.begin(self._base, self._chat, prompts, batch),
                batch.inputs,
            )
            counts, last_N = list(batch.lengths), torch.tensor(batch.lengths) - 1
        cache = memory.cache if self._remembers else None
        with logits_at(self._lm_head, torch.arange(len(prompts)), last_N):
            logits_NV = self._model(
                **to_device(inputs, self._model),
                past_key_values=cache,
                use_cache=self._remembers,
            ).logits
        if "position_ids" not in inputs:
            memory.note_positions(self._base)
        return memory, logits_NV, counts

    def _write(self, requests: Sequence[Write]) -> list[Reply]:
        (stop_id,) = {request.stop_id for request in requests}
        batch = self._batcher(
            [request.prompt.token_ids for request in requests],
            [request.prompt.image for request in requests],
            [request.prompt.image_key for request in requests],
            padding_side="left",
        )
        stop_ids = {stop_id, *self._eos_ids}
        inputs = to_device(batch.inputs, self._model)
        sequences = self._model.generate(
            **inputs,
            max_new_tokens=max(request.max_new_tokens for request in requests),
            do_sample=False,
            eos_token_id=sorted(stop_ids),
            pad_token_id=stop_id,
        )
        replies = []
        for row, sequence in enumerate(sequences[:, inputs["input_ids"].shape[1] :].tolist()):
            written = sequence[: requests[row].max_new_tokens]
            end = next((i for i, token in enumerate(written) if token in stop_ids), len(written))
            replies.append(Reply(tuple(written[:end]), batch.lengths[row], 0))
        return replies


def _shared(prompts: Sequence[tuple[int, Prompt]]) -> list[tuple[int, Prompt]]:
    """What the prompts of each owner begin with alike, to be computed once."""
    own: dict[int, list[Prompt]] = {}
    for owner, prompt in prompts:
        own.setdefault(owner, []).append(prompt)
    shared = []
    for owner, (first, *others) in own.items():
        lengths = [common_length(first.token_ids, other.token_ids) for other in others]
        length = min(lengths, default=len(first.token_ids) - 1)
        shared.append((owner, replace(first, token_ids=first.token_ids[:length])))
    return shared


def _size(talk: _Talk[Any]) -> tuple[bool, int, int]:
    """What prompts are sorted by: without an image first, then by pixels and by length."""
    prompt = talk.requests[0].prompt
    image = prompt.image
    return image is not None, image.width * image.height if image else 0, len(prompt.token_ids)


def _too_large(talk: _Talk[Any]) -> SampleError:
    prompt = talk.requests[0].prompt
    size = f"{prompt.image.width}x{prompt.image.height} pixels" if prompt.image else "no image"
    return SampleError(
        f"a prompt of {len(prompt.token_ids)} tokens and {size} does not fit into memory even "
        "alone; lower model.processor_args (max_pixels, size)"
    )


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
