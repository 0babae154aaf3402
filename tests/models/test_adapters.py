"""An adapter that cannot change its base model as it was trained to do is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sekd.config import DistillSpec, LoraSpec, ModelSpec
from sekd.errors import ConfigError
from sekd.io.folders import publish_folder
from sekd.models.adapters import (
    WEIGHTS,
    adapter_identity,
    check_adapter,
    check_fits,
    copy_adapter_config,
    load_adapter,
)
from sekd.models.loading import load_model
from sekd.stages.distill.adapter import add_adapter

Change = Callable[[dict[str, torch.Tensor]], object]


@pytest.fixture
def copy(adapter: Path, tmp_path: Path) -> Path:
    """A working adapter, to be changed."""
    return Path(shutil.copytree(adapter, tmp_path / "copy"))


@pytest.fixture
def base(tiny_model: Path) -> torch.nn.Module:
    return load_model(ModelSpec(path=str(tiny_model), dtype="float32"))


def change_weights(folder: Path, change: Change) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def zero(part: str) -> Change:
    return lambda weights: [w.zero_() for name, w in weights.items() if part in name]


def test_a_sound_adapter_is_loaded_without_a_complaint(base: torch.nn.Module, copy: Path) -> None:
    check_adapter(copy, "elicit.adapter")
    student = load_adapter(base, copy)
    assert not student.training
    assert not any(weights.requires_grad for weights in student.parameters())
    zeroed_half = zero("layers.0.self_attn.q_proj.lora_B")
    change_weights(copy, zeroed_half)
    check_adapter(copy, "elicit.adapter")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: next(iter(w.values())).fill_(torch.nan), r"a number of \S+ is not finite"),
        (zero("lora_B"), r"changes nothing: in each of its 28 layers lora_A or lora_B is zero"),
        (zero("lora_A"), "the adapter changes nothing"),
        (lambda w: w.clear(), "the adapter changes nothing: in each of its 0 layers"),
    ],
    ids=["NaN", "zero B", "zero A", "empty"],
)
def test_an_adapter_without_an_effect_is_refused(copy: Path, change: Change, message: str) -> None:
    change_weights(copy, change)
    with pytest.raises(ConfigError, match=rf"^elicit\.adapter: .*{message}"):
        check_adapter(copy, "elicit.adapter")


def test_a_directory_without_weights_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).write_bytes(b"{}")
    with pytest.raises(
        ConfigError, match=rf"^elicit.adapter: .*{WEIGHTS} cannot be read: Safetens"
    ):
        check_adapter(copy, "elicit.adapter")
    (copy / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match=rf"has no {WEIGHTS}"):
        check_adapter(copy, "elicit.adapter")
    (copy / "adapter_config.json").write_text("[]", encoding="utf-8")
    (copy / WEIGHTS).touch()
    with pytest.raises(ConfigError, match=r"adapter_config.json: no JSON object"):
        check_adapter(copy, "elicit.adapter")


def test_an_adapter_that_is_not_what_its_record_says_is_refused(copy: Path) -> None:
    publish_folder(copy.parent, copy.parent, copy.name)
    check_adapter(copy, "elicit.adapter")
    (copy / "README.md").write_text("a note")
    check_adapter(copy, "elicit.adapter")
    change_weights(copy, lambda weights: next(iter(weights.values())).add_(0.1))
    with pytest.raises(ConfigError, match=rf"^elicit\.adapter: .*{WEIGHTS}: not what was written"):
        check_adapter(copy, "elicit.adapter")


def test_an_adapter_whose_scale_is_zero_is_refused(copy: Path) -> None:
    file = copy / "adapter_config.json"
    settings = json.loads(file.read_text("utf-8")) | {"lora_alpha": 0}
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ConfigError, match="the adapter changes nothing: its lora_alpha is 0"):
        check_adapter(copy, "elicit.adapter")


def test_what_is_inert_or_not_finite_is_not_loaded_anywhere(
    base: torch.nn.Module, copy: Path
) -> None:
    """The engines, the state pass, the training and the merging load through this function."""
    change_weights(copy, zero("lora_B"))
    with pytest.raises(ConfigError, match="the adapter changes nothing"):
        load_adapter(base, copy)


def rename_all(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        weights[name.replace("text_model", "language_model")] = weights.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_all, r"56 missing: .*; 56 not part of the model: "),
        (lambda w: w.pop(sorted(w)[0]), r"1 missing: \S+lora_A\S+; get"),
        (lambda w: w.update({sorted(w)[0]: torch.zeros(3, 3)}), "does not fit .*RuntimeError"),
    ],
    ids=["another model's names", "missing", "another shape"],
)
def test_an_adapter_that_does_not_fit_its_base_is_refused(
    base: torch.nn.Module, tiny_model: Path, copy: Path, change: Change, message: str
) -> None:
    change_weights(copy, change)
    with pytest.raises(ConfigError, match=message):
        load_adapter(base, copy)
    # Without weights, for an engine that loads adapters itself.
    message = message.replace("does not fit .*RuntimeError", "1 of another shape")
    with pytest.raises(ConfigError, match=message):
        check_fits(ModelSpec(path=str(tiny_model), dtype="float32"), copy)


def test_layers_that_the_base_has_not_are_refused(
    base: torch.nn.Module, tiny_model: Path, copy: Path
) -> None:
    file = copy / "adapter_config.json"
    settings = json.loads(file.read_text("utf-8")) | {"target_modules": ["w1", "w2"]}
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"does not fit .*tiny_model: NoMatching.*: Target modu"):
        load_adapter(base, copy)
    with pytest.raises(ConfigError, match=r"does not fit .*NoMatching"):
        check_fits(ModelSpec(path=str(tiny_model), dtype="float32"), copy)


@pytest.mark.parametrize("kind", [{}, {"rslora": True}, {"dora": True}])
def test_the_weights_of_a_sound_adapter_fit(
    tiny_model: Path, tmp_path: Path, kind: dict[str, bool]
) -> None:
    spec = ModelSpec(path=str(tiny_model), dtype="float32")
    lora = LoraSpec(rank=4, alpha=8, dropout=0.0, **kind)
    model = add_adapter(load_model(spec), DistillSpec(lora=lora))
    model.save_pretrained(str(tmp_path))
    with pytest.raises(ConfigError, match="the adapter changes nothing"):  # it was not trained
        check_fits(spec, tmp_path)
    change_weights(tmp_path, lambda weights: [w.add_(0.1) for w in weights.values()])
    check_fits(spec, tmp_path)


def test_the_identity_of_an_adapter_is_its_config_and_weights(copy: Path) -> None:
    before = adapter_identity(copy, "elicit.adapter")
    (copy / "README.md").write_text("a note of mine")
    (copy / "adapter_config (copy).json").write_text("{}")
    assert adapter_identity(copy, "elicit.adapter") == before
    change_weights(copy, lambda weights: next(iter(weights.values())).add_(1))
    assert adapter_identity(copy, "elicit.adapter") != before


def test_equal_adapters_have_equal_configs(copy: Path, tmp_path: Path) -> None:
    """PEFT writes the names of layers in the order of a set, which each process has anew."""
    contents = set()
    for names in (["q_proj", "v_proj", "k_proj"], ["k_proj", "q_proj", "v_proj"]):
        config = json.loads((copy / "adapter_config.json").read_text("utf-8"))
        (copy / "adapter_config.json").write_text(json.dumps(config | {"target_modules": names}))
        copy_adapter_config(copy, tmp_path)
        contents.add((tmp_path / "adapter_config.json").read_bytes())
    assert len(contents) == 1
