"""The adapter is on the language model alone, and as configured."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from sekd.config import DistillSpec, LoraSpec, ModelSpec
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.lora_targets import find_targets
from sekd.stages.distill.adapter import add_adapter

VISION = "model.vision_model.encoder.layers.0.self_attn.q_proj"
MERGER = "model.connector.modality_projection.proj"
BLOCKS = "model.text_model.layers"


def save_trained(student: PeftModel, folder: Path) -> None:
    """Save an adapter that changes the outputs, as training would; a fresh one does not."""
    for name, weights in student.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    student.save_pretrained(str(folder))


@pytest.fixture
def base(tiny_model: Path) -> torch.nn.Module:
    return loading.load_model(ModelSpec(path=str(tiny_model), dtype="float32"))


def test_names_match_inside_the_blocks_only(base: torch.nn.Module) -> None:
    assert list(find_targets(base, ["q_proj", "down_proj"]).modules) == [
        f"{BLOCKS}.{block}.{name}"
        for block in range(4)
        for name in ("self_attn.q_proj", "mlp.down_proj")
    ]
    assert VISION in {name for name, _ in base.named_modules()}  # it has a q_proj, too


def test_a_full_path_selects_one_layer(base: torch.nn.Module) -> None:
    path = f"{BLOCKS}.2.self_attn.o_proj"
    assert list(find_targets(base, [path]).modules) == [path]
    student = add_adapter(base, DistillSpec(lora=LoraSpec(target_modules=(path,))))
    assert student.targeted_module_names == [path]


@pytest.mark.parametrize("path", [VISION, MERGER, "lm_head"])
def test_a_path_outside_the_blocks_is_refused(base: torch.nn.Module, path: str) -> None:
    with pytest.raises(ConfigError, match=rf"{path} is no linear layer of the language model's"):
        find_targets(base, ["q_proj", path])


# These names are in the vision tower, in the merger, and nowhere.
@pytest.mark.parametrize("name", ["fc1", "proj", "no_proj"])
def test_an_unknown_name_is_refused(base: torch.nn.Module, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no linear layer {name} below .*; there are down_proj"):
        find_targets(base, ["q_proj", name])


@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_rslora_and_dora_change_the_adapter(
    base: torch.nn.Module, tmp_path: Path, kind: str
) -> None:
    lora = LoraSpec(rank=16, alpha=16, **{kind: True})
    student = add_adapter(base, DistillSpec(lora=lora))
    layer = student.get_submodule(f"base_model.model.{BLOCKS}.0.self_attn.q_proj")
    assert layer.scaling["default"] == (4 if kind == "rslora" else 1)  # 16 / sqrt(16)
    student.save_pretrained(str(tmp_path))
    names = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert any("magnitude" in name for name in names) == (kind == "dora")


def test_training_continues_from_the_initial_adapter(base: torch.nn.Module, tmp_path: Path) -> None:
    spec = DistillSpec(lora=LoraSpec(rank=4, alpha=8))
    first = add_adapter(base, spec)
    save_trained(first, tmp_path)
    before = {name: weights.clone() for name, weights in first.named_parameters()}
    new_base = loading.load_model(ModelSpec(path=base.name_or_path, dtype="float32"))
    second = add_adapter(new_base, spec.model_copy(update={"initial_adapter": tmp_path}))
    for name, weights in second.named_parameters():
        assert torch.equal(weights, before[name])
        assert weights.requires_grad == ("lora_" in name)


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ({"rank": 4}, r"has r 4, distill\.lora asks for 64"),
        ({"dropout": 0.0}, r"has lora_dropout 0\.0, distill\.lora asks for 0\.2"),
        (
            {"target_modules": ("q_proj",)},
            rf"target_modules differ in 24 layers, e\.g\. {BLOCKS}\.0\.mlp\.down_proj",
        ),
    ],
)
def test_an_initial_adapter_with_other_settings_is_refused(
    base: torch.nn.Module, tmp_path: Path, initial: dict[str, object], message: str
) -> None:
    save_trained(add_adapter(base, DistillSpec(lora=LoraSpec(**initial))), tmp_path)
    new_base = loading.load_model(ModelSpec(path=base.name_or_path, dtype="float32"))
    with pytest.raises(ConfigError, match=message):
        add_adapter(new_base, DistillSpec(initial_adapter=tmp_path))


def test_an_initial_adapter_on_the_vision_tower_is_refused(
    base: torch.nn.Module, tmp_path: Path
) -> None:
    """Another program may adapt every ``q_proj``; such an adapter would train the vision tower."""
    config = LoraConfig(r=64, lora_alpha=64, lora_dropout=0.2, target_modules=["q_proj"])
    save_trained(get_peft_model(base, config), tmp_path)
    new_base = loading.load_model(ModelSpec(path=base.name_or_path, dtype="float32"))
    lora = LoraSpec(target_modules=("q_proj",))
    with pytest.raises(ConfigError, match=rf"differ in 3 layers, e\.g\. {VISION}"):
        add_adapter(new_base, DistillSpec(initial_adapter=tmp_path, lora=lora))


def test_the_adapted_layers_are_logged(
    base: torch.nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="sekd")
    add_adapter(base, DistillSpec(lora=LoraSpec(target_modules=("o_proj",))))
    debug = [record for record in caplog.records if record.levelno == logging.DEBUG]
    (line,) = [record.getMessage() for record in debug]
    paths = ", ".join(f"{BLOCKS}.{block}.self_attn.o_proj" for block in range(4))
    assert line == f"adapted: {paths}"
