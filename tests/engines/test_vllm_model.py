"""What vLLM has for a model, and models that it runs with the code of transformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torchvision", exc_type=RuntimeError)

import torch
from gallery_families import FAMILIES
from vllm_args import vllm_args

from sekd.config import DistillSpec, LoraSpec, ModelSpec
from sekd.engines import check_serves, open_engine, serves_adapters
from sekd.errors import ConfigError
from sekd.models.chat import load_chat
from sekd.models.loading import load_model
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.model_check import run_model_check

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm not installed"),
]


def save(name: str, folder: Path) -> ModelSpec:
    (family,) = [family for family in FAMILIES if family.name == name]
    try:
        return ModelSpec(path=str(family.save(folder)), dtype="float32")
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "architecture", "is_native"),
    [
        ("qwen2.5-vl", "Qwen2_5_VLForConditionalGeneration", True),
        ("vip-llava", "VipLlavaForConditionalGeneration", False),
        ("ovis2", None, False),
    ],
)
def test_the_support_of_a_family_is_known_before_it_is_loaded(
    tmp_path: Path, name: str, architecture: str | None, is_native: bool
) -> None:
    from sekd.engines.vllm_model import vllm_support

    support = vllm_support(save(name, tmp_path))
    assert (support.architecture, support.is_native) == (architecture, is_native)
    assert support.serves_adapters == (architecture is not None)
    assert bool(support.problem) == (architecture is None)


def test_a_model_on_which_vllm_serves_no_adapter_is_refused_before_it_is_loaded(
    tmp_path: Path, adapter: Path
) -> None:
    spec = save("llava-onevision", tmp_path)
    assert serves_adapters("vllm", spec) is False
    message = "LlavaOnevisionForConditionalGeneration takes none. Set engine: transformers"
    with pytest.raises(ConfigError, match=message):
        check_serves("vllm", spec, adapter)
    check_serves("vllm", spec, None)
    check_serves("transformers", spec, adapter)


def test_the_state_pass_works_after_the_transformers_backend(tmp_path: Path) -> None:
    """In one process vLLM would leave classes behind that transformers cannot load with."""
    checked = run_model_check(save("vip-llava", tmp_path), engine="vllm")
    findings = {finding.name: finding for finding in checked.findings}
    assert "runs transformers' code for it, in a process apart" in findings["vllm"].detail
    assert findings["dialogue"].verdict == "yes", findings["dialogue"].detail
    assert "vllm and the state pass differ by" in findings["dialogue"].detail


def test_an_adapter_with_layers_that_vllm_lacks_is_refused_before_the_first_prompt(
    tmp_path: Path,
) -> None:
    """vLLM splits the fused projection of GLM into two, for which the adapter has no weights."""
    spec = save("glm-4.6v", tmp_path / "model")
    lora = LoraSpec(rank=4, target_modules=("gate_up_proj",))
    model = add_adapter(load_model(spec), DistillSpec(lora=lora))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    model.save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ConfigError, match=r"does not serve this adapter: .*Set engine: trans"):
        open_engine(
            "vllm",
            spec,
            load_chat(spec, subject="organism"),
            adapter=tmp_path / "adapter",
            batch_size=1,
            engine_args=vllm_args("vllm"),
        )
    load_model(spec)
