"""Find and load models: always from a local directory, never from the network."""

from __future__ import annotations

import gc
import re
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from sekd.config import ModelSpec
from sekd.errors import ConfigError, in_one_line
from sekd.io.artefacts import check_folder
from sekd.io.faults import retry
from sekd.io.hash_memo import HashMemo
from sekd.io.hashing import digest
from sekd.io.records import DamagedFileError
from sekd.models.library_log import redirect_warnings
from sekd.models.weights import WEIGHT_SUFFIXES, check_loaded

redirect_warnings()

_LIBRARY_ERRORS = (
    *(OSError, ValueError, TypeError, RuntimeError, ImportError),
    *(AttributeError, LookupError, AssertionError, SafetensorError, StrictDataclassError),
)
"""Errors that transformers and the code of models raise for files that they cannot use."""


def model_directory(spec: ModelSpec) -> Path:
    """Find the local directory of a model: its path, or the snapshot in the Hugging Face cache.

    Raises:
        ConfigError: if it is not on this machine, or was exported and changed since.
    """
    path = Path(spec.path)
    if path.is_dir():
        is_cached = (path / "snapshots").is_dir() and not (path / "config.json").exists()
        return _find_snapshot(path, spec.revision) if is_cached else _checked(path)
    if path.exists():
        raise ConfigError(f"model.path {spec.path!r} is a file; give the directory of the model")
    try:
        return Path(snapshot_download(spec.path, revision=spec.revision, local_files_only=True))
    except HFValidationError as error:
        raise ConfigError(
            f"model.path {spec.path!r} is no directory, and no name of a model on the hub"
        ) from error
    except LocalEntryNotFoundError as error:
        revision = f" --revision {spec.revision}" if spec.revision else ""
        raise ConfigError(
            f"model.path {spec.path!r} is no directory and not in the Hugging Face cache; "
            f"run `hf download {spec.path}{revision}` first"
        ) from error


def _checked(directory: Path) -> Path:
    """Check the files of a model that sekd exported; others have no record.

    Raises:
        ConfigError: if one is not what was written.
    """
    try:
        check_folder(directory)
    except DamagedFileError as error:
        raise ConfigError(
            f"{error}; copy or export the model again, or remove its record if you changed it"
        ) from error
    return directory


def _find_snapshot(folder: Path, revision: str | None) -> Path:
    """Find a revision of a model in its folder of the Hugging Face cache.

    Raises:
        ConfigError: if the folder does not say which snapshot it is; the message lists them.
    """
    names = sorted(entry.name for entry in (folder / "snapshots").iterdir() if entry.is_dir())
    reference = folder / "refs" / (revision or "main")
    name = reference.read_text("utf-8").strip() if reference.is_file() else revision
    if name is None and len(names) == 1:
        (name,) = names
    if name not in names:
        raise ConfigError(
            f"model.path {str(folder)!r}: no snapshot of revision {revision or 'main'} there; set "
            f"model.revision to one of {', '.join(names) or 'no snapshot at all'}"
        )
    return folder / "snapshots" / name


def model_identity(spec: ModelSpec) -> dict[str, Any]:
    """Return everything about a model that changes numbers: files, dtype, processor arguments."""
    directory = model_directory(spec)
    return {
        "content": HashMemo.of(directory).hash_directory(),
        "dtype": spec.dtype,
        "processor_args": spec.processor_args,
        "transformers": transformers.__version__,
    }


def weights_digest(spec: ModelSpec) -> str:
    """Identify the weights of a model, whatever files are beside them.

    Raises:
        ConfigError: if the model is not on this machine, or has no weights.
    """
    directory = model_directory(spec)
    memo = HashMemo.of(directory)
    names = sorted(path.name for path in directory.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if not names:
        raise ConfigError(f"{directory}: no weights there")
    return digest({name: memo.hash(name) for name in names})


def load_processor(spec: ModelSpec) -> Any:
    """Load the model's processor.

    Raises:
        ConfigError: if the directory holds none, or it needs a package that is not installed.
    """
    directory = model_directory(spec)
    try:
        load = partial(
            AutoProcessor.from_pretrained,
            directory,
            trust_remote_code=spec.trust_remote_code,
            local_files_only=True,
            **spec.processor_args,
        )
        processor = retry(load, directory)
    except _LIBRARY_ERRORS as error:
        raise _cannot_load("the processor", directory, error) from error
    if not hasattr(processor, "tokenizer"):
        raise ConfigError(
            f"{directory}: no processor of images and text, only a {type(processor).__name__}; is "
            "processor_config.json or preprocessor_config.json missing?"
        )
    return processor


def load_model_config(spec: ModelSpec) -> PreTrainedConfig:
    """Load the model's config.

    Raises:
        ConfigError: if there is none, or none of a vision-language model.
    """
    directory = model_directory(spec)
    if not (directory / "config.json").is_file():
        raise ConfigError(f"{directory}: no model there (config.json is missing)")
    try:
        load = partial(AutoConfig.from_pretrained, directory, local_files_only=True)
        config = retry(partial(load, trust_remote_code=spec.trust_remote_code), directory)
    except _LIBRARY_ERRORS as error:
        raise _cannot_load("the config", directory, error) from error
    auto_map = getattr(config, "auto_map", None) or {}
    is_known = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if not is_known and "AutoModelForImageTextToText" not in auto_map:
        own = f"; its own code has {', '.join(sorted(auto_map))} only" if auto_map else ""
        raise ConfigError(
            f"{directory}: transformers {transformers.__version__} has no vision-language model "
            f"(AutoModelForImageTextToText) of type {config.model_type!r}{own}"
        )
    return config


def load_model(
    spec: ModelSpec, device: str | None = None, *, in_4bit: bool = False
) -> PreTrainedModel:
    """Load the model in evaluation mode, as its checkpoint has it: whole, or quantised already.

    Args:
        device: where to put it; by default the GPU if there is one, else the CPU.
        in_4bit: whether to quantise the linear layers of the language model's blocks (NF4);
            everything else keeps ``spec.dtype``.

    Raises:
        ConfigError: if the directory holds no vision-language model that transformers knows; a
            weight is missing, left over or of another shape; or ``in_4bit`` is set, and
            bitsandbytes is not installed or the checkpoint is quantised already.
    """
    directory = model_directory(spec)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    method = quantisation(load_model_config(spec))
    if in_4bit:
        check_4bit(spec)
    # A keyword for quantisation, even None, would replace what the checkpoint says of itself. The
    # modules of a quantised model are made on their device and cannot all be moved.
    kwargs: dict[str, Any] = {"quantization_config": _nf4(spec)} if in_4bit else {}
    if in_4bit or method:
        kwargs["device_map"] = {"": device}
    from_pretrained: Any = AutoModelForImageTextToText.from_pretrained
    try:
        load = partial(
            from_pretrained,
            directory,
            dtype=getattr(torch, spec.dtype),
            trust_remote_code=spec.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused by name
            **kwargs,
        )
        model, info = retry(load, directory)
    except _LIBRARY_ERRORS as error:
        raise _cannot_load("the model", directory, error) from error
    check_loaded(info, directory)
    # A checkpoint may bring sampling settings (repetition penalties, for instance) that would make
    # "greedy" mean something else in each engine.
    model.generation_config = GenerationConfig(
        eos_token_id=model.generation_config.eos_token_id, do_sample=False
    )
    if "device_map" not in kwargs:
        model.to(device)
    loaded: PreTrainedModel = model.eval()
    return loaded


def quantisation(config: PreTrainedConfig) -> str | None:
    """Return the method that a checkpoint is quantised with, or ``None``."""
    for part in (config, config.get_text_config()):
        settings = getattr(part, "quantization_config", None)
        if settings:
            as_dict = settings if isinstance(settings, dict) else settings.to_dict()
            return str(getattr(as_dict["quant_method"], "value", as_dict["quant_method"]))
    return None


def _cannot_load(what: str, directory: Path, error: Exception) -> ConfigError:
    """Explain an error of transformers, in the words of our settings."""
    if "trust_remote_code=True" in str(error):
        return ConfigError(
            f"{directory}: {what} needs Python code that comes with the model; read that code, "
            "then set model.trust_remote_code: true"
        )
    return ConfigError(f"{directory}: cannot load {what}: {in_one_line(error, limit=300)}")


def check_4bit(spec: ModelSpec) -> None:
    """Check that a model can be quantised to 4 bits when it is loaded.

    Raises:
        ConfigError: if bitsandbytes is not installed, or the checkpoint is quantised already.
    """
    bitsandbytes_version()
    method = quantisation(load_model_config(spec))
    if method:
        raise ConfigError(
            f"distill.lora.load_in_4bit: {model_directory(spec)} is quantised already ({method}); "
            "leave load_in_4bit off"
        )


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
    """Build the model on the meta device: its modules have shapes and no weights.

    Raises:
        ConfigError: if the directory holds no config of a vision-language model.
    """
    config = load_model_config(spec)
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForImageTextToText.from_config(
                config, trust_remote_code=spec.trust_remote_code
            )
    except _LIBRARY_ERRORS as error:
        raise _cannot_load("the model", model_directory(spec), error) from error
    return model


def _nf4(spec: ModelSpec) -> BitsAndBytesConfig:
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
