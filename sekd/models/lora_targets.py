"""Choose the layers of a language model that get a LoRA adapter, and say which others stay frozen.

By default these are all linear layers of the decoder's blocks, whatever a family calls them, except
routers: a router's choice of experts is discrete, and its training is unstable. A block may also
hold tensors of all its experts, [experts, ...] each, which no linear layer computes. They are
adapted only if they are named, see ``distill.lora.target_modules``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from sekd.config import LoraSpec, ModelSpec
from sekd.errors import ConfigError
from sekd.models.loading import decoder_blocks, meta_model, model_directory

_ROUTER = re.compile(r"(^|\.)(gate|router|shared_expert_gate)(\.|$)")
"""A part of the path of a layer that chooses or weighs experts."""
_USUAL_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Fingerprints hold the names of the layers, in this order where a model has all of these."""


@dataclass(frozen=True)
class LoraTargets:
    """The weights of the decoder's blocks, by what happens to them in distillation.

    Attributes:
        modules: full path of each adapted linear layer -> its number of inputs and outputs.
        experts: full path of each adapted expert tensor -> its shape.
        frozen: full path of each other weight of at least two dimensions -> its number of elements.
        frozen_experts: the names by which ``distill.lora.target_modules`` can take those of the
            frozen weights that are expert tensors.
    """

    modules: Mapping[str, tuple[int, int]]
    experts: Mapping[str, tuple[int, ...]]
    frozen: Mapping[str, int]
    frozen_experts: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The last parts of the adapted layers' names, or full paths where those say too much."""
        last = {_last_part(path) for path in self.modules}
        usual = [name for name in _USUAL_ORDER if name in last]
        names = [*usual, *sorted(last.difference(usual))]
        if any(_last_part(path) in last and _ROUTER.search(path) for path in self.frozen):
            names = list(self.modules)
        return [*names, *self.expert_names]

    @property
    def expert_names(self) -> list[str]:
        """The adapted expert tensors, named with their module."""
        return _unique(_two_last_parts(path) for path in self.experts)

    @property
    def frozen_share(self) -> float:
        """The share of the blocks' weights, in [0, 1], that no adapter changes."""
        num_adapted = sum(inputs * outputs for inputs, outputs in self.modules.values())
        num_adapted += sum(math.prod(shape) for shape in self.experts.values())
        num_frozen = sum(self.frozen.values())
        return num_frozen / max(1, num_frozen + num_adapted)

    def num_trainable(self, spec: LoraSpec) -> int:
        """Count the adapter's parameters: rank x (inputs + outputs) a layer, and a row for DoRA."""
        total = 0
        for inputs, outputs in self.modules.values():
            total += spec.rank * (inputs + outputs) + (outputs if spec.dora else 0)
        for num_experts, rows, columns in self.experts.values():
            total += spec.rank * num_experts * (rows + columns)
        return total


def find_targets(
    model: PreTrainedModel, names: Sequence[str] | None, blocks_path: str | None = None
) -> LoraTargets:
    """Find the layers that get an adapter.

    Args:
        model: a model with weights, or one on the meta device.
        names: full paths, or last parts of names. A last part matches inside the decoder's blocks
            only, even if the vision tower has a layer of that name, too ("q_proj"). An expert
            tensor is named with its module ("experts.down_proj"). ``None`` takes all linear layers
            but routers.

    Raises:
        ConfigError: if a name matches nothing, or a full path is outside the decoder's blocks
            (in the vision tower or the merger).
    """
    path, blocks = decoder_blocks(model, blocks_path)
    linear = {
        f"{path}.{name}": (int(module.in_features), int(module.out_features))
        for name, module in blocks.named_modules()
        if _is_linear(module)
    }
    experts = {
        f"{path}.{name}": tuple(weight.shape)
        for name, weight in blocks.named_parameters()
        if weight.dim() == 3 and _is_expert_path(name)
    }
    if names is None:
        chosen = {name for name in linear if not _ROUTER.search(name.removeprefix(path))}
    else:
        chosen = set()
        for name in names:
            chosen |= _weights_named(name, linear, experts) or _refuse(
                name, model, path, linear, experts
            )
    sizes = {name: inputs * outputs for name, (inputs, outputs) in linear.items()}
    for name, weight in blocks.named_parameters():
        if weight.dim() > 1 and f"{path}.{name}".removesuffix(".weight") not in linear:
            sizes[f"{path}.{name}"] = weight.numel()
    return LoraTargets(
        modules={name: size for name, size in linear.items() if name in chosen},
        experts={name: shape for name, shape in experts.items() if name in chosen},
        frozen={name: size for name, size in sizes.items() if name not in chosen},
        frozen_experts=tuple(
            _unique(_two_last_parts(name) for name in experts if name not in chosen)
        ),
    )


def check_experts(targets: LoraTargets, spec: LoraSpec) -> None:
    """Check that PEFT can adapt the tensors of experts that are named.

    Raises:
        ConfigError: if it cannot with these settings.
    """
    if targets.experts and (spec.dropout or spec.dora):
        setting = "dropout: 0" if spec.dropout else "dora: false"
        raise ConfigError(
            f"distill.lora.target_modules: {targets.names[-1]} is a tensor of all experts, which "
            f"PEFT adapts without dropout and DoRA only; set distill.lora.{setting}"
        )


def default_names(spec: ModelSpec) -> list[str]:
    """Name the layers that a model's adapter gets by default; no weight is loaded.

    Raises:
        ConfigError: if there is no such model, or its blocks are not found.
    """
    directory = model_directory(spec)
    return list(_default_names(directory, spec.trust_remote_code, spec.decoder_blocks))


@lru_cache
def _default_names(
    directory: Path, trust_remote_code: bool, blocks_path: str | None
) -> tuple[str, ...]:
    spec = ModelSpec(path=str(directory), trust_remote_code=trust_remote_code)
    return tuple(find_targets(meta_model(spec), None, blocks_path).names)


def _weights_named(name: str, linear: Iterable[str], experts: Iterable[str]) -> set[str]:
    modules = {path for path in linear if name in (path, _last_part(path))}
    tensors = {path for path in experts if name in (path, _two_last_parts(path))}
    return modules | tensors


def _refuse(
    name: str, model: PreTrainedModel, path: str, linear: Iterable[str], experts: Iterable[str]
) -> set[str]:
    if name in {module for module, _ in model.named_modules()}:
        raise ConfigError(
            f"distill.lora.target_modules: {name} is no linear layer of the language model's "
            f"blocks ({path}); only those can be adapted"
        )
    known = sorted({_last_part(module) for module in linear})
    known += _unique(_two_last_parts(tensor) for tensor in experts)
    raise ConfigError(
        f"distill.lora.target_modules: no linear layer {name} below {path}; there are "
        f"{', '.join(known)}"
    )


def _is_linear(module: nn.Module) -> bool:
    """Tell whether a module is a linear layer, also one of a quantisation method."""
    if isinstance(module, nn.Linear):
        return True
    weight: Any = getattr(module, "weight", None)
    has_sizes = hasattr(module, "in_features") and hasattr(module, "out_features")
    return has_sizes and (weight is None or weight.dim() < 3)


def _is_expert_path(path: str) -> bool:
    """Tell whether a weight belongs to a module that is called ``experts``."""
    return "experts" in path.split(".")[:-1]


def _last_part(path: str) -> str:
    return path.rpartition(".")[2]


def _two_last_parts(path: str) -> str:
    return ".".join(path.split(".")[-2:])


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
