"""Finding and loading models: always from a local directory, never from the network."""

from __future__ import annotations

import gc
import inspect
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)

from sekd.config import ModelSpec
from sekd.errors import ConfigError
from sekd.io.hashing import digest, hash_directory

# Its bars and notices would run through ours; what matters raises, or is in our own log.
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def model_directory(spec: ModelSpec) -> Path:
    """The local directory of a model: its path, or the snapshot in the Hugging Face cache.

    Raises:
        ConfigError: if it is not on this machine.
    """
    if Path(spec.path).is_dir():
        return Path(spec.path)
    try:
        return Path(snapshot_download(spec.path, revision=spec.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise ConfigError(
            f"model.path {spec.path!r} is no directory and not in the Hugging Face cache; "
            f"run `hf download {spec.path}` first"
        ) from error


def model_identity(spec: ModelSpec) -> dict[str, Any]:
    """What of a model changes the numbers: its files' content, dtype and processor arguments."""
    directory = model_directory(spec)
    is_snapshot = directory.parent.name == "snapshots"  # named by the commit: content-addressed
    return {
        "content": directory.name if is_snapshot else hash_directory(directory),
        "dtype": spec.dtype,
        "processor_args": spec.processor_args,
        "transformers": transformers.__version__,
    }


def adapter_identity(directory: Path, key: str) -> str:
    """What of a PEFT adapter changes the numbers: a hash over its config and weights.

    Raises:
        ConfigError: see :func:`check_adapter`.
    """
    check_adapter(directory, key)
    files = hash_directory(directory)
    return digest({name: files[name] for name in files if name.startswith("adapter_")})


def check_adapter(directory: Path, key: str) -> None:
    """Refuse a directory that holds no PEFT adapter.

    Raises:
        ConfigError: that it does not; ``key`` is the setting that names it.
    """
    if not (directory / "adapter_config.json").is_file():
        raise ConfigError(
            f"{key}: {directory} is no directory of a PEFT adapter (adapter_config.json is not "
            "there)"
        )


def load_processor(spec: ModelSpec) -> Any:
    """The model's processor.

    Raises:
        ConfigError: if the directory holds none.
    """
    directory = model_directory(spec)
    try:
        return AutoProcessor.from_pretrained(
            directory, trust_remote_code=spec.trust_remote_code, **spec.processor_args
        )
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{directory}: cannot load the processor: {_line(error)}") from error


def load_model(
    spec: ModelSpec, device: str | None = None, *, in_4bit: bool = False
) -> PreTrainedModel:
    """The model in evaluation mode, on the GPU if there is one and no other device is named.

    Args:
        in_4bit: whether the linear layers of the language model's blocks are quantised (NF4);
            everything else keeps ``spec.dtype``.

    Raises:
        ConfigError: if the directory holds no vision-language model that transformers knows, or
            bitsandbytes is asked for and not installed.
    """
    directory = model_directory(spec)
    try:
        model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
            directory,
            dtype=getattr(torch, spec.dtype),
            trust_remote_code=spec.trust_remote_code,
            quantization_config=_quantization(spec) if in_4bit else None,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory}: cannot load the model: {_line(error)}") from error
    # Sampling habits that a checkpoint brings along (repetition penalties and the like) would make
    # "greedy" mean something else in each engine.
    model.generation_config = GenerationConfig(
        eos_token_id=model.generation_config.eos_token_id, do_sample=False
    )
    module: nn.Module = model
    module.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval()


def bitsandbytes_version() -> str:
    """The version of what puts a base into 4 bits.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return metadata.version("bitsandbytes")
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            "distill.lora.load_in_4bit: bitsandbytes is not installed: pip install 'sekd[qlora]'"
        ) from error


def meta_model(spec: ModelSpec) -> PreTrainedModel:
    """The model's modules with shapes and no weights."""
    trusted = spec.trust_remote_code
    config = AutoConfig.from_pretrained(model_directory(spec), trust_remote_code=trusted)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(
            config, trust_remote_code=trusted
        )
    return model


def _quantization(spec: ModelSpec) -> BitsAndBytesConfig:
    bitsandbytes_version()  # what transformers says without it is a line too long
    path, _ = decoder_blocks(meta_model(spec), spec.decoder_blocks)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, spec.dtype),
        # A pattern of what to leave as it is: all names that do not begin with the blocks' path.
        llm_int8_skip_modules=[rf"(?!{re.escape(path)}\.)"],
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def free_memory() -> None:
    """Give the memory of a dropped model back, so that the next one finds it free."""
    gc.collect()  # models hold reference cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def forward_accepts(model: nn.Module, argument: str) -> bool:
    """Whether the model's ``forward`` has a parameter of that name."""
    return argument in inspect.signature(model.forward).parameters


def decoder_blocks(model: PreTrainedModel, path: str | None = None) -> tuple[str, nn.ModuleList]:
    """Module path and list of the language model's blocks.

    The list is the one inside transformers' ``get_decoder()`` that is as long as the config says.

    Args:
        path: where it is, for a model that this rule does not fit.

    Raises:
        ConfigError: if there is no such list, or several; the message lists all module lists.
    """
    lists = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    }
    if path is not None:
        if path in lists:
            return path, lists[path]
        raise ConfigError(f"model.decoder_blocks: {path!r} is none of {', '.join(lists)}")
    inside = {id(module) for module in model.get_decoder().modules()}
    length = model.config.get_text_config().num_hidden_layers
    found = [name for name in lists if id(lists[name]) in inside and len(lists[name]) == length]
    if len(found) != 1:
        raise ConfigError(
            f"{type(model).__name__}: {len(found)} lists of {length} blocks in its decoder; set "
            f"model.decoder_blocks to one of {', '.join(lists)}"
        )
    return found[0], lists[found[0]]
