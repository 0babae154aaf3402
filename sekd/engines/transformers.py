"""The engine that runs anywhere: transformers, in batches, with a cache of earlier turns."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessor, LogitsProcessorList

from sekd.engines.base import (
    Answer,
    Ask,
    Conversation,
    EngineOptions,
    Reply,
    Response,
    Result,
    Write,
    eos_token_ids,
)
from sekd.engines.driver import ActiveConversation, plain_conversation
from sekd.engines.kv_cache import (
    ConversationPrompt,
    PrefixKVCache,
    find_prefixes,
    shared_prefixes,
)
from sekd.errors import ConfigError, SampleError
from sekd.models.adapters import load_adapter
from sekd.models.batching import AdaptiveBatchSize, Batcher, forward_arguments, to_device
from sekd.models.hooks import logits_at
from sekd.models.loading import free_memory, load_model
from sekd.models.probe import probe_model
from sekd.models.refusals import find_refused

logger = logging.getLogger(__name__)

_CACHE_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
"""Largest difference in log-probability between a turn with and without the cache, at load."""
_POOL_BATCHES = 4
"""The number of batches over which conversations are sorted by length."""

# Shapes: N rows, V vocabulary, K options of the row with most.


class TransformersEngine:
    """Conversations of one batch advance together; each turn computes only its new tokens.

    A batch that does not fit into memory is halved, and later batches have the smaller size, too.

    Raises:
        ConfigError: if there are ``engine_args``, which this engine does not take.
    """

    name = "transformers"
    version = transformers.__version__

    def __init__(self, options: EngineOptions) -> None:
        if options.engine_args:
            given = dict(options.engine_args)
            raise ConfigError(f"the transformers engine takes no engine_args, got {given}")
        self._chat = options.chat
        self._batch_size = AdaptiveBatchSize(options.batch_size)
        base = load_model(options.model)
        self._base = base
        self._lm_head = base.get_output_embeddings()
        self._batcher = Batcher(self._chat, forward_arguments(base))
        self._eos_ids = eos_token_ids(base.generation_config.eos_token_id)
        self._model: Any = base
        self._supports_prefix_reuse = probe_model(
            base, self._chat, self._batcher
        ).supports_prefix_reuse
        if self._supports_prefix_reuse:
            self._supports_prefix_reuse = self._gives_the_same_with_its_cache()
        if options.adapter is not None:
            self._model = load_adapter(base, options.adapter)
            self._check_adapted(options.adapter)

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """See :class:`~sekd.engines.base.Engine`."""
        waiting = iter(conversations)
        while pool := [
            ActiveConversation(conversation)
            for conversation in islice(waiting, _POOL_BATCHES * self._batch_size.size)
        ]:
            yield from _results_of_ended(pool)
            active = sorted(_not_done(pool), key=_sort_key)
            for _, group in groupby(active, key=_has_image):
                while batch := list(islice(group, self._batch_size.size)):
                    yield from self._run_batch(batch, None)

    def _gives_the_same_with_its_cache(self) -> bool:
        """Return whether the second turn about the plain picture is the same without the cache."""
        cached, computed = self._run_plain()[-1], self._run_plain(with_cache=False)[-1]
        difference = np.abs(cached.option_logprobs - computed.option_logprobs).max()
        if difference <= _CACHE_TOLERANCES.get(self._base.dtype, 0.3):
            return True
        logger.warning(
            "%s answers otherwise when it continues from its cache (log-probabilities differ by "
            "%.2g): every prompt is computed from its beginning, which is slower",
            type(self._base).__name__,
            difference,
        )
        return False

    def _check_adapted(self, adapter: Path) -> None:
        """Answer the plain prompt with the adapter.

        Raises:
            ConfigError: if the answers are not finite.
        """
        try:
            self._run_plain()
        except FloatingPointError as error:
            raise ConfigError(f"{adapter}: with this adapter the {error}") from error

    def close(self) -> None:
        """Free the model."""
        del self._model, self._base, self._lm_head
        free_memory()

    def _run_batch(
        self, batch: list[ActiveConversation[Result]], cache: PrefixKVCache | None
    ) -> Iterator[Result]:
        """Drive these conversations to their end; ``cache`` holds their last prompts."""
        while batch:
            num_rows = sum(len(conversation.requests) for conversation in batch)
            outcome = None
            if num_rows <= self._batch_size.size or len(batch) == 1:
                respond = partial(self._respond, batch, cache)
                try:
                    outcome = self._batch_size.attempt(respond, num_rows)
                except Exception as error:  # noqa: BLE001  whose fault it is shows below
                    self._fail_refused(batch, cache, error)
                    yield from _results_of_ended(batch)
                    batch = _not_done(batch)
                    continue
            if outcome is not None:
                responses, cache = outcome
                for conversation, its_responses in zip(batch, responses, strict=True):
                    conversation.answer(its_responses)
            elif len(batch) == 1:
                batch[0].fail(_too_large(batch[0]))
                cache = None
            else:
                middle = len(batch) // 2
                yield from self._run_batch(batch[:middle], cache)
                yield from self._run_batch(batch[middle:], cache)
                return
            yield from _results_of_ended(batch)
            batch = _not_done(batch)

    def _fail_refused(
        self,
        batch: Sequence[ActiveConversation[Any]],
        cache: PrefixKVCache | None,
        error: Exception,
    ) -> None:
        """Fail the conversations of a batch whose requests the model does not take.

        Raises:
            Exception: as :func:`~sekd.models.refusals.find_refused`.
        """
        refused = find_refused(
            batch,
            error,
            run=lambda conversation: self._respond([conversation], cache),
            run_plain=self._run_plain,
        )
        for index, its_error in refused.items():
            batch[index].fail(its_error)

    def _run_plain(self, *, with_cache: bool = True) -> list[Answer]:
        """Answer two turns about the plain picture, the second with the cache of the first."""
        active = ActiveConversation(plain_conversation(self._chat))
        cache: PrefixKVCache | None = None
        while not active.is_done:
            (responses,), cache = self._respond([active], cache if with_cache else None)
            active.answer(responses)
        return active.result

    @torch.inference_mode()
    def _respond(
        self, batch: Sequence[ActiveConversation[Any]], cache: PrefixKVCache | None
    ) -> tuple[list[list[Response]], PrefixKVCache | None]:
        """Answer all requests of a batch.

        Returns:
            Per conversation, the responses to its requests; and the cache of their prompts.
        """
        asks: list[tuple[int, Ask]] = []
        writes: list[Write] = []
        for conversation in batch:
            for request in conversation.requests:
                if isinstance(request, Ask):
                    asks.append((conversation.id, request))
                else:
                    writes.append(request)
        answers: list[Answer] = []
        if asks:
            answers, cache = self._answer(asks, cache)
        next_answer, next_reply = iter(answers), iter(self._write(writes) if writes else [])
        responses: list[list[Response]] = [
            [
                next(next_answer) if isinstance(request, Ask) else next(next_reply)
                for request in conversation.requests
            ]
            for conversation in batch
        ]
        return responses, cache

    def _answer(
        self, asks: Sequence[tuple[int, Ask]], cache: PrefixKVCache | None
    ) -> tuple[list[Answer], PrefixKVCache]:
        """Answer these requests, each with the id of its conversation."""
        prompts = [
            ConversationPrompt(conversation_id, request.prompt) for conversation_id, request in asks
        ]
        num_conversations = len({conversation_id for conversation_id, _ in asks})
        num_shared: dict[int, int] = {}  # conversation id -> tokens computed for all its requests
        if self._supports_prefix_reuse and num_conversations < len(asks):
            shared = shared_prefixes(prompts)
            cache, _, counts = self._forward(shared, cache)
            num_shared = {
                prefix.conversation_id: count for prefix, count in zip(shared, counts, strict=True)
            }
        cache, logits_NV, counts = self._forward(prompts, cache)
        logprobs_NV = logits_NV.float().log_softmax(-1)
        option_ids = [torch.tensor(request.option_ids) for _, request in asks]
        option_ids_NK = pad_sequence(option_ids, batch_first=True).to(logprobs_NV.device)
        logprobs_NK = logprobs_NV.gather(1, option_ids_NK).cpu().numpy()  # few of the vocabulary
        answers = []
        for row, (conversation_id, request) in enumerate(asks):
            options = logprobs_NK[row, : len(request.option_ids)]
            num_tokens = cache.rows[row].num_tokens
            # Shared tokens are counted once, with the first request of the conversation.
            num_computed = counts[row] + num_shared.pop(conversation_id, 0)
            answers.append(
                Answer(int(options.argmax()), options, num_tokens, num_tokens - num_computed)
            )
        return answers, cache

    def _forward(
        self, prompts: Sequence[ConversationPrompt], cache: PrefixKVCache | None
    ) -> tuple[PrefixKVCache, Tensor, list[int]]:
        """Compute the tokens of these prompts that are not in the cache.

        Returns:
            A cache with one row per prompt; logits [N, V] of the next token, in the model's dtype;
            and the number of tokens computed for each prompt.
        """
        continued = self._continue(prompts, cache)
        if continued is None:
            batch = self._batcher(
                [prompt.token_ids for _, prompt in prompts],
                [prompt.image for _, prompt in prompts],
                [prompt.image_key for _, prompt in prompts],
            )
            cache = PrefixKVCache.for_batch(self._base, self._chat, prompts, batch)
            inputs, counts = batch.inputs, list(batch.lengths)
        else:
            cache, inputs, counts = continued
        last_N = torch.tensor(counts) - 1
        with logits_at(self._lm_head, torch.arange(len(prompts)), last_N):
            logits_NV = self._model(
                **to_device(inputs, self._model),
                past_key_values=cache.cache if self._supports_prefix_reuse else None,
                use_cache=self._supports_prefix_reuse,
            ).logits
        if continued is None:
            cache.record_rope_deltas(self._base)
        return cache, logits_NV, counts

    def _continue(
        self, prompts: Sequence[ConversationPrompt], cache: PrefixKVCache | None
    ) -> tuple[PrefixKVCache, dict[str, Tensor], list[int]] | None:
        """Continue the cache with these prompts; ``None`` if it lacks the beginning of one."""
        if cache is None or not self._supports_prefix_reuse:
            return None
        prefixes = find_prefixes(cache.rows, prompts)
        return None if prefixes is None else cache.continue_with(prompts, prefixes)

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
        watch = _FiniteLogits()
        sequences = self._model.generate(
            **inputs,
            logits_processor=LogitsProcessorList([watch]),
            max_new_tokens=max(request.max_new_tokens for request in requests),
            do_sample=False,
            eos_token_id=sorted(stop_ids),
            pad_token_id=stop_id,
        )
        if not watch.all_finite:
            raise FloatingPointError("logits of its reply are not finite")
        num_padded = inputs["input_ids"].shape[1]
        replies = []
        for row, sequence in enumerate(sequences[:, num_padded:].tolist()):
            written = sequence[: requests[row].max_new_tokens]
            end = next((i for i, token in enumerate(written) if token in stop_ids), len(written))
            replies.append(Reply(tuple(written[:end]), batch.lengths[row], num_cached_tokens=0))
        return replies


class _FiniteLogits(LogitsProcessor):
    """Watches the logits of a text that is written, and changes none of them.

    Attributes:
        all_finite: whether no logit was NaN or infinite; minus infinity means that a token is
            barred.
    """

    def __init__(self) -> None:
        self._is_broken = torch.tensor(False)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Look at the logits of one more token, [N, V], without waiting for the device."""
        is_broken = (scores.isnan() | scores.isposinf()).any()
        self._is_broken = self._is_broken.to(scores.device) | is_broken
        return scores

    @property
    def all_finite(self) -> bool:
        return not bool(self._is_broken)


def _results_of_ended(conversations: Iterable[ActiveConversation[Result]]) -> Iterator[Result]:
    return (conversation.result for conversation in conversations if conversation.is_done)


def _not_done(
    conversations: Iterable[ActiveConversation[Result]],
) -> list[ActiveConversation[Result]]:
    return [conversation for conversation in conversations if not conversation.is_done]


def _has_image(conversation: ActiveConversation[Any]) -> bool:
    return conversation.requests[0].prompt.image is not None


def _sort_key(conversation: ActiveConversation[Any]) -> tuple[bool, int, int]:
    """Sort prompts without an image first, then by pixels and by length."""
    prompt = conversation.requests[0].prompt
    num_pixels = prompt.image.width * prompt.image.height if prompt.image else 0
    return prompt.image is not None, num_pixels, len(prompt.token_ids)


def _too_large(conversation: ActiveConversation[Any]) -> SampleError:
    prompt = conversation.requests[0].prompt
    size = f"{prompt.image.width}x{prompt.image.height} pixels" if prompt.image else "no image"
    return SampleError(
        f"a prompt of {len(prompt.token_ids)} tokens and {size} does not fit into memory even "
        "alone; lower model.processor_args (max_pixels, size)"
    )
