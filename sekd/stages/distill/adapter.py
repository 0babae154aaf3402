"""The student's LoRA adapter: which layers it adapts, and the weights it starts from."""

from __future__ import annotations

import logging
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import PreTrainedModel

from sekd.config import DistillSpec
from sekd.errors import ConfigError
from sekd.models.adapters import WEIGHTS, load_adapter
from sekd.models.lora_targets import check_experts, find_targets

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


def add_adapter(
    model: PreTrainedModel, spec: DistillSpec, blocks_path: str | None = None
) -> PeftModel:
    """Return the model with a LoRA adapter: a new one, or ``distill.initial_adapter``.

    Only the adapter is trainable. A 4-bit base is used as it was loaded, without PEFT's
    ``prepare_model_for_kbit_training``: that would convert everything that is not quantised to
    float32, the vision tower included, and turn on gradient checkpointing.

    Raises:
        ConfigError: if a layer cannot be adapted as configured, or the initial adapter's settings
            or layers are not the configured ones.
    """
    lora = spec.lora
    targets = find_targets(model, lora.target_modules, blocks_path)
    check_experts(targets, lora)
    logger.debug("adapted: %s", ", ".join((*targets.modules, *targets.experts)))
    if lora.load_in_4bit and (targets.experts or targets.frozen_experts):
        logger.warning(
            "distill.lora.load_in_4bit: bitsandbytes quantises linear layers only; the tensors of "
            "the experts stay as they are loaded"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets.modules),
        target_parameters=list(targets.experts) or None,
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
    adapted = {*student.targeted_module_names, *student.targeted_parameter_names}
    differing = adapted ^ {*targets.modules, *targets.experts}
    if differing:
        raise ConfigError(
            f"distill.initial_adapter: {spec.initial_adapter} and distill.lora.target_modules "
            f"differ in {len(differing)} layers, e.g. {min(differing)}"
        )
    return student


def saved_modules(directory: Path) -> list[str]:
    """Return the full paths of the layers of a saved adapter, in the order of their blocks.

    Of the tensors of experts, whose adapters are nested in the file, the module is named.
    """
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        names = [name for name in file.keys() if name.endswith(_LORA_A_SUFFIX)]  # noqa: SIM118
    paths = {
        name.removeprefix("base_model.model.")
        .removesuffix(_LORA_A_SUFFIX)
        .removesuffix(".base_layer")
        for name in names
    }
    return sorted(paths, key=_natural_order)


def _natural_order(path: str) -> list[str]:
    """Return a sort key that puts block 2 before block 10."""
    return [part.zfill(4) for part in path.split(".")]
