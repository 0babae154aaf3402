"""The adapter of families with layers of their own: trained, saved, loaded and merged alike."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torchvision", exc_type=RuntimeError)

import torch
from gallery_families import FAMILIES

from sekd.config import DistillSpec, LoraSpec, ModelSpec
from sekd.errors import ConfigError
from sekd.models.adapters import check_adapter, load_adapter
from sekd.models.loading import load_model
from sekd.models.lora_targets import default_names, find_targets
from sekd.models.merge import merged_model
from sekd.stages.distill.adapter import add_adapter, saved_modules

EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
WITH_EXPERTS = {"qwen3-vl-moe", "qwen3.5-moe", "llama4", "aria", "kimi-k2.5", "ernie4.5-vl"}
OTHERS = {"glm-4v", "lfm2-vl", "qwen3.5", "gemma4", "muse-glimmer"}


@pytest.fixture(scope="module", params=sorted(WITH_EXPERTS | OTHERS))
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    (family,) = [family for family in FAMILIES if family.name == request.param]
    try:
        folder = family.save(tmp_path_factory.mktemp("families") / family.name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return ModelSpec(path=str(folder), dtype="float32")


def test_the_adapter_is_trained_saved_loaded_and_merged(spec: ModelSpec, tmp_path: Path) -> None:
    names = default_names(spec)
    if Path(spec.path).name in WITH_EXPERTS:
        names += EXPERTS
    lora = LoraSpec(rank=2, alpha=4, dropout=0.0, target_modules=tuple(names))
    base = load_model(spec)
    targets = find_targets(base, names)
    model = add_adapter(base, DistillSpec(lora=lora))
    tokens = torch.arange(30, 60)[None]
    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert all("lora_" in name for name in trained)
    num_trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert num_trained == targets.num_trainable(lora)
    model(input_ids=tokens).logits.logsumexp(-1).sum().backward()
    vision_only = "vision_moe"  # of Ernie; no token of an image is here
    unreached = [
        name
        for name, weights in model.named_parameters()
        if name in trained and weights.grad is None and vision_only not in name
    ]
    assert unreached == []
    model.save_pretrained(str(tmp_path))
    check_adapter(tmp_path, "test")
    experts = {path.rpartition(".")[0] for path in targets.experts}
    assert set(saved_modules(tmp_path)) == {*targets.modules, *experts}
    with torch.inference_mode():
        expected = model.eval()(input_ids=tokens).logits
        with model.disable_adapter():
            unadapted = model(input_ids=tokens).logits
        loaded = load_adapter(load_model(spec), tmp_path)(input_ids=tokens).logits
        merged = load_model(spec.model_copy(update={"path": str(merged_model(spec, tmp_path))}))(
            input_ids=tokens
        ).logits
    torch.testing.assert_close(loaded, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert (expected - unadapted).abs().max() > 0.01


def test_experts_are_not_adapted_with_dropout(spec: ModelSpec) -> None:
    if Path(spec.path).name not in WITH_EXPERTS:
        with pytest.raises(ConfigError, match=r"no linear layer experts\.down_proj below "):
            find_targets(load_model(spec), ["experts.down_proj"])
        return
    for setting, others in (("dropout: 0", {}), ("dora: false", {"dropout": 0.0, "dora": True})):
        lora = LoraSpec(target_modules=("experts.down_proj",), **others)
        with pytest.raises(ConfigError, match=f"without dropout and DoRA only; set .*{setting}"):
            add_adapter(load_model(spec), DistillSpec(lora=lora))
