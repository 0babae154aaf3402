"""The student's LoRA adapter: which layers it is on, and where it starts from."""

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

logger = logging.getLogger(__name__)

_ALIKE = (
    *("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora"),
    *("bias", "modules_to_save", "rank_pattern", "alpha_pattern"),
)
"""What an adapter to go on from has in common with the one that is asked for."""
_FIRST_FACTOR = ".lora_A.weight"


def adapted_modules(
    model: PreTrainedModel, targets: Sequence[str], blocks_path: str | None = None
) -> list[str]:
    """Full paths of the language model's linear layers that get an adapter.

    Args:
        targets: last parts of names, which match below the decoder's blocks only, so a name that
            the vision tower also has ("q_proj") cannot match there; or full paths.

    Raises:
        ConfigError: if a target matches nothing, or a full path is outside the decoder's blocks
            (in the vision tower or the merger).
    """
    path, blocks = loading.decoder_blocks(model, blocks_path)
    linear = {
        f"{path}.{name}" for name, module in blocks.named_modules() if isinstance(module, nn.Linear)
    }
    known = sorted({name.rpartition(".")[2] for name in linear})
    everywhere = {name for name, _ in model.named_modules()}
    chosen: set[str] = set()
    for target in targets:
        found = {name for name in linear if target in (name, name.rpartition(".")[2])}
        if not found and target in everywhere:
            raise ConfigError(
                f"distill.lora.target_modules: {target} is no linear layer of the language model's "
                f"blocks ({path}); what sees the image stays frozen"
            )
        if not found:
            raise ConfigError(
                f"distill.lora.target_modules: no linear layer {target} below {path}; there are "
                f"{', '.join(known)}"
            )
        chosen |= found
    return [name for name, _ in model.named_modules() if name in chosen]


def add_adapter(
    model: PreTrainedModel, spec: DistillSpec, blocks_path: str | None = None
) -> PeftModel:
    """The model with a LoRA adapter, fresh or gone on from; nothing else needs a gradient.

    A base in 4 bits is taken as it is: PEFT's ``prepare_model_for_kbit_training`` would turn all
    that is not quantised, the vision tower too, into float32, and checkpoint activations unasked.

    Raises:
        ConfigError: if the adapter to go on from is not like the one that is asked for.
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
    student = PeftModel.from_pretrained(model, spec.initial_adapter, is_trainable=True)
    begun = student.peft_config["default"]
    for name in _ALIKE:
        has, asked = (getattr(each, name, None) for each in (begun, config))
        if has != asked:
            raise ConfigError(
                f"distill.initial_adapter: {spec.initial_adapter} has {name} {has}, distill.lora "
                f"asks for {asked}"
            )
    others = {*student.targeted_module_names} ^ {*modules}
    if others:
        raise ConfigError(
            f"distill.initial_adapter: {spec.initial_adapter} and distill.lora.target_modules "
            f"differ in {len(others)} layers, e.g. {min(others)}"
        )
    return student


def adapted_in(folder: Path) -> list[str]:
    """Full paths of the layers that a stored adapter is on, in the order of their blocks."""
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.endswith(_FIRST_FACTOR)]  # noqa: SIM118
    paths = [name.removeprefix("base_model.model.").removesuffix(_FIRST_FACTOR) for name in names]
    return sorted(paths, key=lambda path: [part.zfill(4) for part in path.split(".")])
