"""Find and load models: always from a local directory, never from the network."""

from __future__ import annotations

import gc
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
from sekd.errors import ConfigError, in_one_line
from sekd.io.hashing import digest, hash_directory

# The progress bars and notices of transformers would mix with ours. What matters raises an error or
# is in our own log.
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def model_directory(spec: ModelSpec) -> Path:
    """Find the local directory of a model: its path, or the snapshot in the Hugging Face cache.

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
    """Return everything about a model that changes numbers: files, dtype, processor arguments."""
    directory = model_directory(spec)
    # The name of a snapshot is its commit, which fixes its content.
    is_snapshot = directory.parent.name == "snapshots"
    return {
        "content": directory.name if is_snapshot else hash_directory(directory),
        "dtype": spec.dtype,
        "processor_args": spec.processor_args,
        "transformers": transformers.__version__,
    }


def adapter_identity(directory: Path, key: str) -> str:
    """Hash the config and weights of a PEFT adapter: everything of it that changes numbers.

    Raises:
        ConfigError: if the directory holds no PEFT adapter.
    """
    check_adapter(directory, key)
    files = hash_directory(directory)
    return digest({name: files[name] for name in files if name.startswith("adapter_")})


def check_adapter(directory: Path, key: str) -> None:
    """Check that a directory holds a PEFT adapter.

    Args:
        key: the config key that names the directory, for error messages.

    Raises:
        ConfigError: if it holds none.
    """
    if not (directory / "adapter_config.json").is_file():
        raise ConfigError(
            f"{key}: {directory} is no directory of a PEFT adapter (adapter_config.json is not "
            "there)"
        )


def load_processor(spec: ModelSpec) -> Any:
    """Load the model's processor.

    Raises:
        ConfigError: if the directory holds none.
    """
    directory = model_directory(spec)
    try:
        return AutoProcessor.from_pretrained(
            directory, trust_remote_code=spec.trust_remote_code, **spec.processor_args
        )
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{directory}: cannot load the processor: {in_one_line(error, limit=300)}"
        ) from error


def load_model(
    spec: ModelSpec, device: str | None = None, *, in_4bit: bool = False
) -> PreTrainedModel:
    """Load the model in evaluation mode.

    Args:
        device: where to put it; by default the GPU if there is one, else the CPU.
        in_4bit: whether to quantise the linear layers of the language model's blocks (NF4);
            everything else keeps ``spec.dtype``.

    Raises:
        ConfigError: if the directory holds no vision-language model that transformers knows, or
            ``in_4bit`` is set and bitsandbytes is not installed.
    """
    directory = model_directory(spec)
    try:
        model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
            directory,
            dtype=getattr(torch, spec.dtype),
            trust_remote_code=spec.trust_remote_code,
            quantization_config=_quantization_config(spec) if in_4bit else None,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{directory}: cannot load the model: {in_one_line(error, limit=300)}"
        ) from error
    # A checkpoint may bring sampling settings (repetition penalties, for instance) that would make
    # "greedy" mean something else in each engine.
    model.generation_config = GenerationConfig(
        eos_token_id=model.generation_config.eos_token_id, do_sample=False
    )
    module: nn.Module = model
    module.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval()


def bitsandbytes_version() -> str:
    """Return the installed version of bitsandbytes, which quantises a base model to 4 bits.

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
    """Build the model on the meta device: its modules have shapes and no weights."""
    trust_remote_code = spec.trust_remote_code
    config = AutoConfig.from_pretrained(model_directory(spec), trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(
            config, trust_remote_code=trust_remote_code
        )
    return model


def _quantization_config(spec: ModelSpec) -> BitsAndBytesConfig:
    bitsandbytes_version()  # raises a shorter message than transformers if it is not installed
    path, _ = decoder_blocks(meta_model(spec), spec.decoder_blocks)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, spec.dtype),
        # This pattern matches the modules that stay as they are: all outside of the blocks.
        llm_int8_skip_modules=[rf"(?!{re.escape(path)}\.)"],
    )


def free_memory() -> None:
    """Free the memory of models and tensors that nothing refers to any more."""
    gc.collect()  # models hold reference cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def decoder_blocks(model: PreTrainedModel, path: str | None = None) -> tuple[str, nn.ModuleList]:
    """Find the language model's list of blocks; returns its module path and the list.

    The list is the one inside transformers' ``get_decoder()`` whose length is the config's
    ``num_hidden_layers``.

    Args:
        path: module path of the list, for a model that this rule does not fit.

    Raises:
        ConfigError: if there is no such list, or several; the message names all module lists.
    """
    lists = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    }
    if path is not None:
        if path in lists:
            return path, lists[path]
        raise ConfigError(f"model.decoder_blocks: {path!r} is none of {', '.join(lists)}")
    in_decoder = set(model.get_decoder().modules())
    num_blocks = model.config.get_text_config().num_hidden_layers
    names = [
        name for name, blocks in lists.items() if blocks in in_decoder and len(blocks) == num_blocks
    ]
    if len(names) != 1:
        raise ConfigError(
            f"{type(model).__name__}: {len(names)} lists of {num_blocks} blocks in its decoder; "
            f"set model.decoder_blocks to one of {', '.join(lists)}"
        )
    return names[0], lists[names[0]]
