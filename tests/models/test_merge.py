"""A merged copy answers like base and adapter, and keeps the base's other files."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest
import torch
from gallery_models import gallery_spec
from peft import PeftModel
from PIL import Image
from transformers import PreTrainedModel

from sekd.config import DistillSpec, LoraSpec, ModelSpec
from sekd.io.hashing import hash_directory
from sekd.models import loading
from sekd.models.adapters import write_processor_args
from sekd.models.batching import Batcher
from sekd.models.chat import load_chat
from sekd.models.loading import load_model
from sekd.models.merge import merged_model
from sekd.stages.distill.adapter import add_adapter


@pytest.fixture
def spec(tiny_model: Path) -> ModelSpec:
    return ModelSpec(path=str(tiny_model), dtype="float32")


def save_adapter(spec: ModelSpec, folder: Path, seed: int = 0, **kind: bool) -> Path:
    """Save an adapter that changes the model's output, unlike a fresh one."""
    torch.manual_seed(seed)
    model = add_adapter(load_model(spec), DistillSpec(lora=LoraSpec(rank=4, alpha=8, **kind)))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    model.save_pretrained(str(folder))
    return folder


def logits(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    tokens = torch.arange(20, 40)[None]
    with torch.inference_mode():
        return model(input_ids=tokens).logits


@pytest.mark.parametrize("kind", [{}, {"rslora": True}, {"dora": True}], ids=str)
def test_the_copy_answers_like_base_and_adapter(
    spec: ModelSpec, tmp_path: Path, kind: dict[str, bool]
) -> None:
    adapter = save_adapter(spec, tmp_path / "adapter", **kind)
    base = load_model(spec)
    base_logits = logits(base)
    expected = logits(PeftModel.from_pretrained(base, str(adapter)).eval())
    copy = merged_model(spec, adapter)
    got = logits(load_model(ModelSpec(path=str(copy), dtype="float32")))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (expected - base_logits).abs().max() > 0.1


def test_only_the_weights_differ_from_the_base(spec: ModelSpec, tmp_path: Path) -> None:
    files = hash_directory(merged_model(spec, save_adapter(spec, tmp_path / "adapter")))
    base = hash_directory(Path(spec.path))
    assert {path for path in base if files.get(path) != base[path]} == {"model.safetensors"}
    assert set(files) == set(base)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("qwen2.5-vl", {"max_pixels": 4 * 28 * 28}),
        ("idefics3", {"size": {"longest_edge": 56}}),
        ("glm-4v", {"size": {"shortest_edge": 28 * 28, "longest_edge": 4 * 28 * 28}}),
    ],
)
@pytest.mark.parametrize("is_legacy", [False, True])
def test_the_copy_has_the_processor_arguments_of_the_adapter(
    name: str, args: dict[str, object], is_legacy: bool, tmp_path: Path
) -> None:
    """Checkpoints of before 2026 have the image processor's settings in a file of their own."""
    spec = ModelSpec(path=str(copytree(gallery_spec(name).path, tmp_path / name)), dtype="float32")
    if is_legacy:
        processor = loading.load_processor(spec)
        (tmp_path / name / "processor_config.json").unlink()
        processor.image_processor.save_pretrained(tmp_path / name)
    adapter = save_adapter(spec, tmp_path / "adapter")
    write_processor_args(adapter, args)
    copy = merged_model(spec, adapter)
    tokens = [
        count_tokens(asked)
        for asked in (
            spec,
            spec.model_copy(update={"processor_args": args}),
            ModelSpec(path=str(copy), dtype="float32"),
        )
    ]
    assert tokens[0] > tokens[1] == tokens[2]
    assert (
        hash_directory(copy)["tokenizer.json"] == hash_directory(Path(spec.path))["tokenizer.json"]
    )


def count_tokens(spec: ModelSpec) -> int:
    chat = load_chat(spec, subject="organism")
    image = Image.new("RGB", (640, 480), (90, 120, 30))
    return Batcher(chat)([chat.image_prefix_ids], [image], ["image"]).lengths[0]


def test_a_copy_is_made_once_for_each_content(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = save_adapter(spec, tmp_path / "adapter")
    other = save_adapter(spec, tmp_path / "other", seed=1)
    copy = merged_model(spec, adapter)
    assert merged_model(spec, other) != copy
    monkeypatch.setattr(loading, "load_model", lambda *_: pytest.fail("merged again"))
    assert merged_model(spec, adapter.rename(tmp_path / "elsewhere")) == copy
    assert [path.name for path in copy.parent.iterdir() if path.name.startswith(".")] == []
