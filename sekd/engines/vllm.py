"""The fast engine: vLLM with prefix caching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Generic

import numpy as np
from torch import Tensor

from sekd.config import ModelSpec
from sekd.data.questions import LETTERS
from sekd.engines.base import (
    Answer,
    Ask,
    Conversation,
    EngineOptions,
    Prompt,
    Reply,
    Request,
    Response,
    Result,
    eos_token_ids,
)
from sekd.engines.driver import ActiveConversation
from sekd.engines.vllm_model import (
    MAX_LOGPROB_TOKEN_IDS,
    VLLM_VERSION,
    PoolingParams,
    SamplingParams,
    load_llm,
    reason_of,
    shut_down,
)
from sekd.errors import FatalError, SampleError
from sekd.models.loading import free_memory
from sekd.models.plain import plain_prompt
from sekd.models.refusals import is_out_of_memory

_POOLING_TASK: Final = "token_embed"


@dataclass
class _Turn(Generic[Result]):
    """A conversation whose requests are in vLLM.

    Attributes:
        parts: the requests as vLLM gets them, each with the index of the request that it is a part
            of.
        responses: the responses so far, by the index of their part; an error where a response is
            no number.
    """

    conversation: ActiveConversation[Result]
    parts: Sequence[tuple[int, Request]]
    responses: dict[int, Response | SampleError] = field(default_factory=dict)

    def joined(self) -> list[Response]:
        """Return one response for each request of the conversation, when all parts have one.

        Raises:
            SampleError: if an error is among them.
        """
        responses: dict[int, Response] = {}
        for part, response in self.responses.items():
            if isinstance(response, SampleError):
                raise response
            responses[part] = response
        numbered = enumerate(self.parts)
        return [
            _join([responses[part] for part, _ in group])
            for _, group in groupby(numbered, key=lambda item: item[1][0])
        ]


@dataclass
class _InFlight(Generic[Result]):
    """Everything that vLLM is working on.

    Attributes:
        turns: turns by the id of their conversation.
        requests: vLLM's request id -> conversation id and index of the part in its turn.
    """

    turns: dict[int, _Turn[Result]] = field(default_factory=dict)
    requests: dict[str, tuple[int, int]] = field(default_factory=dict)


class VllmEngine:
    """Conversations advance independently, so that the next turn finds its own prefix cached.

    The number of active conversations is limited to what the cache of keys and values holds. With
    more of them the prefix of a dialogue would be evicted before its next turn.
    """

    name = "vllm"
    version = VLLM_VERSION

    def __init__(self, options: EngineOptions) -> None:
        args: dict[str, Any] = {"max_logprobs": len(LETTERS), "enable_prefix_caching": True}
        args |= options.engine_args
        self._llm, self._lora = load_llm(options.model, options.adapter, args)
        generation_config = self._llm.model_config.try_get_generation_config()
        self._eos_ids = eos_token_ids(generation_config.get("eos_token_id"))
        config = self._llm.llm_engine.vllm_config
        self._max_num_seqs = config.scheduler_config.max_num_seqs
        cache = config.cache_config
        self._num_cache_tokens = (cache.num_gpu_blocks or 0) * cache.block_size
        self._longest_request: int | None = None
        self._chat = options.chat
        self._takes_plain_prompt = False

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """See :class:`~sekd.engines.base.Engine`."""
        # Token counts and seconds of a run must not depend on prompts or images of an earlier run.
        self._llm.reset_prefix_cache()
        self._llm.reset_mm_cache()
        waiting = iter(conversations)
        in_flight: _InFlight[Result] = _InFlight()
        try:
            while True:
                yield from self._start_conversations(waiting, in_flight)
                if not in_flight.turns:
                    return
                yield from self._step(in_flight)
        finally:
            self._llm.llm_engine.abort_request(list(in_flight.requests))

    def close(self) -> None:
        """Stop the engine."""
        shut_down(self._llm)
        del self._llm
        free_memory()

    def _start_conversations(
        self, waiting: Iterator[Conversation[Result]], in_flight: _InFlight[Result]
    ) -> Iterator[Result]:
        """Start conversations while there is room; yields results of those that end at once."""
        while len(in_flight.turns) < self._max_active():
            conversation = next(waiting, None)
            if conversation is None:
                return
            active = ActiveConversation(conversation)
            self._enqueue(active, in_flight)
            if active.is_done:
                yield active.result

    def _max_active(self) -> int:
        """Return how many conversations the cache holds; one until a length is known."""
        if self._longest_request is None:
            return 1
        return max(1, min(self._max_num_seqs, self._num_cache_tokens // self._longest_request))

    def _step(self, in_flight: _InFlight[Result]) -> Iterator[Result]:
        """Let vLLM compute one step, and advance the conversations whose turn it completes."""
        for output in self._finished_outputs():
            conversation_id, index = in_flight.requests.pop(output.request_id)
            turn = in_flight.turns[conversation_id]
            try:
                turn.responses[index] = self._response(turn.parts[index][1], output)
            except FloatingPointError as error:
                turn.responses[index] = SampleError(f"the model fails on this image: {error}")
            if len(turn.responses) == len(turn.parts):
                del in_flight.turns[conversation_id]
                try:
                    responses = turn.joined()
                except SampleError as error:
                    turn.conversation.fail(error)
                else:
                    turn.conversation.answer(responses)
                self._enqueue(turn.conversation, in_flight)
                if turn.conversation.is_done:
                    yield turn.conversation.result

    def _enqueue(
        self, conversation: ActiveConversation[Result], in_flight: _InFlight[Result]
    ) -> None:
        """Give vLLM the requests of a conversation; it fails if vLLM does not take one of them."""
        while not conversation.is_done:
            requests = enumerate(conversation.requests)
            parts = [(index, part) for index, request in requests for part in _in_parts(request)]
            try:
                request_ids = self._enqueue_all([part for _, part in parts])
            except SampleError as error:
                conversation.fail(error)
                continue
            in_flight.turns[conversation.id] = _Turn(conversation, parts)
            for index, request_id in enumerate(request_ids):
                in_flight.requests[request_id] = conversation.id, index
            return

    def _enqueue_all(self, requests: Sequence[Request]) -> list[str]:
        """Give vLLM all of these requests, or none; returns their ids.

        Raises:
            SampleError: if vLLM does not take one of them.
            FatalError: if it does not take the plain picture either.
        """
        request_ids: list[str] = []
        for request in requests:
            try:
                request_ids.append(self._enqueue_one(request))
            except Exception as error:  # the model's processor raises most kinds
                self._llm.llm_engine.abort_request(request_ids)
                raise self._refusal(error) from error
        return request_ids

    def _enqueue_one(self, request: Request) -> str:
        (internal_id,) = self._llm.enqueue(
            _vllm_prompt(request.prompt),
            _sampling_params(request),
            lora_request=self._lora,
            use_tqdm=False,
        )
        # Outputs have the id without its random suffix.
        return internal_id.rpartition("-")[0]

    def _refusal(self, error: BaseException) -> BaseException:
        """Return what it means that vLLM does not take a prompt."""
        if is_out_of_memory(error):
            return error
        if not self._takes_plain_prompt:
            try:
                plain = Ask(Prompt(*plain_prompt(self._chat)), self._chat.letter_ids[:1])
                self._llm.llm_engine.abort_request([self._enqueue_one(plain)])
            except Exception as plain_error:  # noqa: BLE001  it is returned
                reason = reason_of(plain_error)
                return FatalError(f"vLLM does not take a prompt with a plain picture: {reason}")
            self._takes_plain_prompt = True
        while error.__cause__ is not None:  # vLLM wraps what the model's processor raised
            error = error.__cause__
        return SampleError(f"vLLM does not take this prompt: {reason_of(error)}")

    def _finished_outputs(self) -> list[Any]:
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as error:  # after any error, requests and cache are in no known state
            raise FatalError(f"the vLLM engine died: {reason_of(error)}") from error
        return [output for output in outputs if output.finished]

    def _response(self, request: Request, output: Any) -> Response:
        (completion,) = output.outputs
        num_prompt_tokens = len(output.prompt_token_ids)
        num_cached_tokens = output.num_cached_tokens or 0
        num_tokens = num_prompt_tokens + len(completion.token_ids)
        self._longest_request = max(self._longest_request or 0, num_tokens)
        if isinstance(request, Ask):
            logprobs = completion.logprobs[0]
            option_logprobs = np.array(
                [logprobs[token].logprob for token in request.option_ids], dtype=np.float32
            )
            choice = int(option_logprobs.argmax())
            return Answer(choice, option_logprobs, num_prompt_tokens, num_cached_tokens)
        token_ids = tuple(completion.token_ids)
        if token_ids and token_ids[-1] in {request.stop_id, *self._eos_ids}:
            token_ids = token_ids[:-1]
        return Reply(token_ids, num_prompt_tokens, num_cached_tokens)


class VllmEncoder:
    """Computes final states (behind the last norm) of all positions with vLLM's pooling runner."""

    def __init__(
        self, spec: ModelSpec, *, adapter: Path | None, engine_args: Mapping[str, Any]
    ) -> None:
        args = {
            "runner": "pooling",
            "convert": "embed",
            "pooler_config": {"task": _POOLING_TASK},
            "enable_prefix_caching": False,  # a cached position would have no state
        }
        self._llm, self._lora = load_llm(spec, adapter, args | dict(engine_args))

    def encode(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Compute the states of each prompt: [number of tokens with the image expanded, D].

        Raises:
            FatalError: if the engine is broken.
            Exception: what the model's processor raised for one of the prompts; the engine works.
        """
        try:
            outputs = self._llm.encode(
                [_vllm_prompt(prompt) for prompt in prompts],
                pooling_params=PoolingParams(use_activation=False),  # not normalised
                pooling_task=_POOLING_TASK,
                lora_request=self._lora,
                use_tqdm=False,
            )
        except Exception as error:
            # Where a prompt is not taken, vLLM aborts those that it took before.
            if not self._llm.llm_engine.has_unfinished_requests():
                self._llm.reset_mm_cache()  # it counts the images of aborted prompts as known
                raise
            raise FatalError(f"the vLLM engine died: {reason_of(error)}") from error
        return [output.outputs.data for output in outputs]

    def close(self) -> None:
        """Stop the engine."""
        shut_down(self._llm)
        del self._llm
        free_memory()


def _in_parts(request: Request) -> list[Request]:
    """Split a request for more log-probabilities than vLLM gives at once; they share the prompt."""
    if not isinstance(request, Ask) or len(request.option_ids) <= MAX_LOGPROB_TOKEN_IDS:
        return [request]
    starts = range(0, len(request.option_ids), MAX_LOGPROB_TOKEN_IDS)
    parts = [request.option_ids[start : start + MAX_LOGPROB_TOKEN_IDS] for start in starts]
    return [Ask(request.prompt, option_ids) for option_ids in parts]


def _join(responses: Sequence[Response]) -> Response:
    """Join the responses to the parts of one request.

    Prompt tokens that were computed for several parts count as often as they were computed, as far
    as the prompt is long; they are found in the cache wherever the parts come one after another.
    """
    answers = [response for response in responses if isinstance(response, Answer)]
    if len(answers) < 2:
        return responses[0]
    logprobs = np.concatenate([answer.option_logprobs for answer in answers])
    num_prompt_tokens = answers[0].num_prompt_tokens
    num_computed = sum(num_prompt_tokens - answer.num_cached_tokens for answer in answers)
    num_cached_tokens = max(0, num_prompt_tokens - num_computed)
    return Answer(int(logprobs.argmax()), logprobs, num_prompt_tokens, num_cached_tokens)


def _vllm_prompt(prompt: Prompt) -> Any:
    if prompt.image is None:
        return {"prompt_token_ids": list(prompt.token_ids)}
    return {
        "prompt_token_ids": list(prompt.token_ids),
        "multi_modal_data": {"image": prompt.image},
        "multi_modal_uuids": {"image": prompt.image_key},
    }


def _sampling_params(request: Request) -> SamplingParams:
    if isinstance(request, Ask):  # the sampled token is not used, only the letters' raw values
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=list(request.option_ids),
            detokenize=False,
        )
    return SamplingParams(
        max_tokens=request.max_new_tokens,
        temperature=0.0,
        stop_token_ids=[request.stop_id],
        detokenize=False,
    )
