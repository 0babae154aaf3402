"""Find, check and load PEFT adapters. One that changes nothing, or does not fit, is refused."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from sekd.errors import ConfigError, in_one_line
from sekd.io.hashing import digest, hash_directory
from sekd.models.weights import check_keys

logger = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"
_A, _B = ".lora_A.", ".lora_B."


def adapter_identity(directory: Path, key: str) -> str:
    """Hash the config and weights of a PEFT adapter: everything of it that changes numbers.

    Raises:
        ConfigError: as :func:`check_adapter`.
    """
    check_adapter(directory, key)
    files = hash_directory(directory)
    return digest({name: files[name] for name in files if name.startswith("adapter_")})


def check_adapter(directory: Path, key: str) -> None:
    """Check that a directory holds a PEFT adapter that changes its base model.

    Args:
        key: the config key that names the directory, for error messages.

    Raises:
        ConfigError: if it holds none, a weight is not finite, or all updates are zero.
    """
    if not (directory / "adapter_config.json").is_file():
        raise ConfigError(
            f"{key}: {directory} is no directory of a PEFT adapter (adapter_config.json is not "
            "there)"
        )
    if not (directory / WEIGHTS).is_file():
        raise ConfigError(f"{key}: {directory} has no {WEIGHTS}; save the adapter with PEFT again")
    read_adapter_config(directory)
    try:
        _check_weights(directory / WEIGHTS, key)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{key}: {directory / WEIGHTS} cannot be read: {in_one_line(error)}"
        ) from error


def read_adapter_config(directory: Path) -> dict[str, Any]:
    """Read ``adapter_config.json``.

    Raises:
        ConfigError: if it is no JSON object.
    """
    file = directory / "adapter_config.json"
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {in_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: no JSON object")
    return content


def load_adapter(
    model: PreTrainedModel, directory: Path, *, is_trainable: bool = False
) -> PeftModel:
    """Put a saved adapter on a model; the adapter's weights are trainable only if asked for.

    Raises:
        ConfigError: if a layer or a weight of it does not fit the model.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(model, str(directory), is_trainable=is_trainable)
            # PEFT tells which weights fitted only when the same adapter is loaded by name.
            result = adapted.load_adapter(
                str(directory),
                "default",
                is_trainable=is_trainable,
                torch_device=str(model.device),
                key_mapping=getattr(model, "_checkpoint_conversion_mapping", None),
            )
        except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{directory}: the adapter does not fit {model.name_or_path}: "
                f"{in_one_line(error, limit=300)}"
            ) from error
    check_keys(directory, result.missing_keys, result.unexpected_keys)
    for warning in caught:
        logger.debug("warning by PEFT: %s", in_one_line(str(warning.message), limit=300))
    return adapted


def _check_weights(file: Path, key: str) -> None:
    """Refuse weights that are not finite, or of which every LoRA update is zero."""
    with safe_open(file, framework="pt") as weights:
        names = list(weights.keys())
        for name in names:
            if not torch.isfinite(weights.get_tensor(name)).all():
                raise ConfigError(f"{key}: {file}: a number of {name} is not finite")
        is_plain_lora = all(_A in name or _B in name for name in names)
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
