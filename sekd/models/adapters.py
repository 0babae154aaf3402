"""Find, check and load PEFT adapters. One that changes nothing, or does not fit, is refused."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from sekd.config import ModelSpec
from sekd.errors import ConfigError, in_one_line
from sekd.io.artefacts import Artefact, check_folder
from sekd.io.faults import retry
from sekd.io.files import read_bytes, write_atomically
from sekd.io.hashing import digest, hash_directory
from sekd.io.records import DamagedFileError
from sekd.models.loading import meta_model
from sekd.models.weights import check_keys

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PROCESSOR = "adapter_processor.json"
"""Beside PEFT's files, in an adapter that was trained with processor arguments of its own."""
_A, _B, _MAGNITUDE = ".lora_A.", ".lora_B.", ".lora_magnitude_vector"
_PREFIX = "base_model.model."
_PEFT_ERRORS = (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError)
"""Errors that PEFT raises for an adapter that it cannot put on a model."""


def adapter_identity(directory: Path, key: str) -> str:
    """Hash the config and weights of a PEFT adapter, and its processor arguments if it has any.

    That is everything of it that changes numbers; a model card, for instance, does not.

    Raises:
        ConfigError: as :func:`check_adapter`.
    """
    check_adapter(directory, key)
    files = hash_directory(directory)
    return digest({name: files[name] for name in files if is_adapter_file(name)})


def check_adapter(directory: Path, key: str) -> None:
    """Check that a directory holds a PEFT adapter that changes its base model.

    Args:
        key: the config key that names the directory, for error messages.

    Raises:
        ConfigError: if it holds none, it is not what its record beside it says, a weight is not
            finite, or all updates are zero.
    """
    try:
        artefact = Artefact.read(directory.parent, directory.name)  # sekd's own have a record
        if artefact is not None:
            artefact.check(is_adapter_file)
        check_folder(directory, is_adapter_file)  # an exported one carries its record
    except DamagedFileError as error:
        raise ConfigError(
            f"{key}: {error}; the command that made it, with the same config, makes it again"
        ) from error
    if not (directory / "adapter_config.json").is_file():
        raise ConfigError(
            f"{key}: {directory} is no directory of a PEFT adapter (adapter_config.json is not "
            "there)"
        )
    if not (directory / WEIGHTS).is_file():
        raise ConfigError(f"{key}: {directory} has no {WEIGHTS}; save the adapter with PEFT again")
    config = read_adapter_config(directory)
    if config.get("peft_type") == "LORA" and config.get("lora_alpha") == 0:
        raise ConfigError(f"{key}: {directory}: the adapter changes nothing: its lora_alpha is 0")
    read_processor_args(directory)
    try:
        retry(partial(_check_weights, directory / WEIGHTS, key), directory)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{key}: {directory / WEIGHTS} cannot be read: {in_one_line(error)}"
        ) from error


def read_adapter_config(directory: Path) -> dict[str, Any]:
    """Read ``adapter_config.json``.

    Raises:
        ConfigError: if it is no JSON object.
    """
    return _read_object(directory / "adapter_config.json")


def write_processor_args(directory: Path, processor_args: Mapping[str, Any]) -> None:
    """Keep the processor arguments that an adapter was trained with in its directory."""
    text = json.dumps({"processor_args": processor_args}, indent=1)
    (directory / _PROCESSOR).write_text(f"{text}\n", encoding="utf-8")


def read_processor_args(directory: Path) -> dict[str, Any] | None:
    """Read the processor arguments that an adapter was trained with.

    Returns ``None`` if it keeps none: it was trained with those of its base model.

    Raises:
        ConfigError: if the file that holds them is malformed.
    """
    file = directory / _PROCESSOR
    if not file.exists():
        return None
    processor_args = _read_object(file).get("processor_args")
    if not isinstance(processor_args, dict):
        raise ConfigError(f"{file}: 'processor_args' is no JSON object")
    return processor_args


def adapted_spec(spec: ModelSpec, adapter: Path | None) -> ModelSpec:
    """Return a model with the processor arguments that its adapter was trained with.

    Raises:
        ConfigError: as :func:`read_processor_args`.
    """
    kept = read_processor_args(adapter) if adapter is not None else None
    return spec if kept is None else spec.model_copy(update={"processor_args": kept})


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {in_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: no JSON object")
    return content


def copy_adapter_config(source: Path, target: Path) -> None:
    """Copy ``adapter_config.json`` from one directory to another, the same for equal adapters.

    PEFT keeps the names of layers in sets, and writes them in another order in every process.
    """
    content = read_adapter_config(source)
    for name in ("target_modules", "exclude_modules"):
        if isinstance(content.get(name), list):
            content[name] = sorted(content[name])
    write_atomically(target / CONFIG, json.dumps(content, indent=2, sort_keys=True) + "\n")


def load_adapter(
    model: PreTrainedModel, directory: Path, *, is_trainable: bool = False
) -> PeftModel:
    """Put a saved adapter on a model; the adapter's weights are trainable only if asked for.

    Raises:
        ConfigError: if a layer or a weight of it does not fit the model, or as
            :func:`check_adapter`.
    """
    check_adapter(directory, "adapter")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted = retry(
                partial(
                    PeftModel.from_pretrained, model, str(directory), is_trainable=is_trainable
                ),
                directory,
            )
            # PEFT tells which weights fitted only when the same adapter is loaded by name.
            result = adapted.load_adapter(
                str(directory),
                "default",
                is_trainable=is_trainable,
                torch_device=str(model.device),
                key_mapping=getattr(model, "_checkpoint_conversion_mapping", None),
            )
        except _PEFT_ERRORS as error:
            raise _does_not_fit(directory, model, error) from error
    check_keys(directory, result.missing_keys, result.unexpected_keys)
    for warning in caught:
        logger.debug("warning by PEFT: %s", in_one_line(str(warning.message), limit=300))
    return adapted


def check_fits(spec: ModelSpec, directory: Path) -> None:
    """Check that the weights of an adapter are those of its layers in a model; nothing is loaded.

    Raises:
        ConfigError: as :func:`load_adapter`.
    """
    check_adapter(directory, "adapter")
    model = meta_model(spec)
    try:
        adapted = get_peft_model(model, PeftConfig.from_pretrained(str(directory)))
    except _PEFT_ERRORS as error:
        raise _does_not_fit(directory, model, error) from error
    expected = {
        name: tuple(weight.shape)
        for name, weight in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }
    renamed = getattr(model, "_checkpoint_conversion_mapping", None) or {}
    with safe_open(directory / WEIGHTS, framework="pt") as weights:
        found = {
            _name_now(name, renamed): tuple(weights.get_slice(name).get_shape())
            for name in weights.keys()  # noqa: SIM118
        }
    check_keys(
        directory,
        expected.keys() - found.keys(),
        found.keys() - expected.keys(),
        [name for name in expected.keys() & found.keys() if expected[name] != found[name]],
    )


def _name_now(name: str, renamed: Mapping[str, str]) -> str:
    """Return what a weight that an earlier version of transformers named is called now."""
    path = name.removeprefix(_PREFIX)
    for pattern, replacement in renamed.items():
        path, num_replaced = re.subn(pattern, replacement, path)
        if num_replaced:
            break
    return f"{_PREFIX}{path}"


def is_adapter_file(path: str) -> bool:
    """Tell whether a file of an adapter's directory changes numbers; the others are for people."""
    return path.rpartition("/")[2] in (CONFIG, WEIGHTS, _PROCESSOR)


def _does_not_fit(directory: Path, model: PreTrainedModel, error: Exception) -> ConfigError:
    reason = in_one_line(error, limit=300)
    return ConfigError(f"{directory}: the adapter does not fit {model.name_or_path}: {reason}")


def _check_weights(file: Path, key: str) -> None:
    """Refuse weights that are not finite, or of which every LoRA update is zero."""
    with safe_open(file, framework="pt") as weights:
        names = list(weights.keys())
        for name in names:
            if not torch.isfinite(weights.get_tensor(name)).all():
                raise ConfigError(f"{key}: {file}: a number of {name} is not finite")
        is_plain_lora = all(_A in name or _B in name or _MAGNITUDE in name for name in names)
        if is_plain_lora and not any(_updates(weights, names)):
            raise ConfigError(
                f"{key}: {file}: the adapter changes nothing: in each of its "
                f"{sum(_A in name for name in names)} layers lora_A or lora_B is zero; was it "
                "trained?"
            )


def _updates(weights: Any, names: list[str]) -> Iterator[bool]:
    """Tell for each layer whether its update B A can be other than zero."""
    for name in names:
        if _A in name:
            other = name.replace(_A, _B)
            yield other not in names or bool(
                weights.get_tensor(name).any() and weights.get_tensor(other).any()
            )
