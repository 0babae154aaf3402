"""The student's LoRA adapter: which layers it adapts, and the weights it starts from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from sekd.config import DistillSpec
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.adapters import load_adapter

logger = logging.getLogger(__name__)

_COMPARED_SETTINGS = (
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "use_dora",
    "bias",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
)
"""PEFT settings in which ``distill.initial_adapter`` must equal the configured adapter."""
_LORA_A_SUFFIX = ".lora_A.weight"


def adapted_modules(
    model: PreTrainedModel, targets: Sequence[str], blocks_path: str | None = None
) -> list[str]:
    """Return the full paths of the language model's linear layers that get an adapter.

    Args:
        targets: full paths, or last parts of names. A last part matches inside the decoder's blocks
            only, even if the vision tower has a layer of that name, too ("q_proj").

    Raises:
        ConfigError: if a target matches nothing, or a full path is outside the decoder's blocks
            (in the vision tower or the merger).
    """
    path, blocks = loading.decoder_blocks(model, blocks_path)
    linear = {
        f"{path}.{name}" for name, module in blocks.named_modules() if isinstance(module, nn.Linear)
    }
    known = sorted({name.rpartition(".")[2] for name in linear})
    all_modules = {name for name, _ in model.named_modules()}
    chosen: set[str] = set()
    for target in targets:
        matches = {name for name in linear if target in (name, name.rpartition(".")[2])}
        if not matches and target in all_modules:
            raise ConfigError(
                f"distill.lora.target_modules: {target} is no linear layer of the language model's "
                f"blocks ({path}); only those can be adapted"
            )
        if not matches:
            raise ConfigError(
                f"distill.lora.target_modules: no linear layer {target} below {path}; there are "
                f"{', '.join(known)}"
            )
        chosen |= matches
    return [name for name, _ in model.named_modules() if name in chosen]


def add_adapter(
    model: PreTrainedModel, spec: DistillSpec, blocks_path: str | None = None
) -> PeftModel:
    """Return the model with a LoRA adapter: a new one, or ``distill.initial_adapter``.

    Only the adapter is trainable. A 4-bit base is used as it was loaded, without PEFT's
    ``prepare_model_for_kbit_training``: that would convert everything that is not quantised to
    float32, the vision tower included, and turn on gradient checkpointing.

    Raises:
        ConfigError: if the initial adapter's settings or layers are not the configured ones.
    """
    lora = spec.lora
    modules = adapted_modules(model, lora.target_modules, blocks_path)
    logger.debug("adapted: %s", ", ".join(modules))
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        task_type="CAUSAL_LM",
    )
    if spec.initial_adapter is None:
        return get_peft_model(model, config)
    student = load_adapter(model, spec.initial_adapter, is_trainable=True)
    initial_config = student.peft_config["default"]
    for name in _COMPARED_SETTINGS:
        initial, requested = getattr(initial_config, name, None), getattr(config, name, None)
        if initial != requested:
            raise ConfigError(
                f"distill.initial_adapter: {spec.initial_adapter} has {name} {initial}, "
                f"distill.lora asks for {requested}"
            )
    differing = {*student.targeted_module_names} ^ {*modules}
    if differing:
        raise ConfigError(
            f"distill.initial_adapter: {spec.initial_adapter} and distill.lora.target_modules "
            f"differ in {len(differing)} layers, e.g. {min(differing)}"
        )
    return student


def saved_modules(directory: Path) -> list[str]:
    """Return the full paths of the layers of a saved adapter, in the order of their blocks."""
    with safe_open(directory / "adapter_model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.endswith(_LORA_A_SUFFIX)]  # noqa: SIM118
    paths = [name.removeprefix("base_model.model.").removesuffix(_LORA_A_SUFFIX) for name in names]
    return sorted(paths, key=_natural_order)


def _natural_order(path: str) -> list[str]:
    """Return a sort key that puts block 2 before block 10."""
    return [part.zfill(4) for part in path.split(".")]
