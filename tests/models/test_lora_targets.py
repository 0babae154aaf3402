"""Each family's own layers get an adapter by default, and what stays frozen is known."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from transformers import AutoModelForImageTextToText, PreTrainedModel

from sekd.config import LoraSpec
from sekd.errors import ConfigError
from sekd.models.lora_targets import find_targets

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
USUAL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]

NAMES = {
    "Qwen2_5_VLConfig": USUAL,
    "Qwen3VLConfig": USUAL,
    "LlavaConfig": USUAL,
    "Glm4vConfig": [*ATTENTION, "down_proj", "gate_up_proj"],
    "Qwen3VLMoeConfig": ATTENTION,
    "Llama4Config": USUAL,
    "Qwen3_5Config": [*USUAL, "in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z", "out_proj"],
    "Lfm2VlConfig": ["q_proj", "k_proj", "v_proj", "in_proj", "out_proj", "w1", "w2", "w3"],
}
"""Config class -> the names of the layers that its model's adapter gets by default."""


def on_meta(config_class: str) -> PreTrainedModel:
    config = getattr(hf, config_class)()
    text = config.get_text_config()
    text.num_hidden_layers = 4
    if getattr(text, "layer_types", None):
        first = "conv" if config_class == "Lfm2VlConfig" else text.layer_types[0]
        text.layer_types = [first, first, first, "full_attention"]
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


@pytest.mark.parametrize("config_class", NAMES)
def test_the_default_fits_the_family(config_class: str) -> None:
    model = on_meta(config_class)
    targets = find_targets(model, None)
    assert targets.names == NAMES[config_class]
    has_experts = config_class in ("Qwen3VLMoeConfig", "Llama4Config")
    assert list(targets.frozen_experts) == (EXPERTS if has_experts else [])
    assert (targets.frozen_share > 0.5) == has_experts
    by_name = find_targets(model, targets.names)
    assert by_name.modules == targets.modules


def test_no_router_is_adapted() -> None:
    paths = find_targets(on_meta("Llama4Config"), None).modules
    assert not any("router" in path for path in paths)


def test_experts_are_adapted_where_they_are_named() -> None:
    targets = find_targets(on_meta("Qwen3VLMoeConfig"), ["q_proj", "experts.down_proj"])
    assert targets.names == ["q_proj", "experts.down_proj"]
    assert targets.frozen_experts == ("experts.gate_up_proj",)
    assert len(targets.modules) == len(targets.experts) == 4
    whole = find_targets(on_meta("Qwen3VLMoeConfig"), [*ATTENTION, *EXPERTS])
    assert whole.frozen_share < 0.01


def test_the_parameters_are_counted() -> None:
    """By hand: 4 blocks, rank 2; q_proj of 2048 to 4096, 128 experts of 768 to 2048."""
    spec = LoraSpec(rank=2)
    model = on_meta("Qwen3VLMoeConfig")
    text = model.config.get_text_config()
    inputs, outputs = text.hidden_size, text.num_attention_heads * text.head_dim
    assert find_targets(model, ["q_proj"]).num_trainable(spec) == 4 * 2 * (inputs + outputs)
    dora = spec.model_copy(update={"dora": True})
    assert find_targets(model, ["q_proj"]).num_trainable(dora) == 4 * (
        2 * (inputs + outputs) + outputs
    )
    experts = 4 * 2 * text.num_experts * (text.moe_intermediate_size + inputs)
    assert find_targets(model, ["experts.down_proj"]).num_trainable(spec) == experts


def test_an_unknown_name_lists_the_experts_too() -> None:
    with pytest.raises(ConfigError, match=r"no linear layer w1 .*v_proj, experts.gate_up_pr"):
        find_targets(on_meta("Qwen3VLMoeConfig"), ["w1"])
