"""An adapter that cannot change its base model as it was trained to do is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sekd.config import ModelSpec
from sekd.errors import ConfigError
from sekd.models.adapters import WEIGHTS, check_adapter, load_adapter
from sekd.models.loading import load_model

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
    base: torch.nn.Module, copy: Path, change: Change, message: str
) -> None:
    change_weights(copy, change)
    with pytest.raises(ConfigError, match=message):
        load_adapter(base, copy)


def test_layers_that_the_base_has_not_are_refused(base: torch.nn.Module, copy: Path) -> None:
    file = copy / "adapter_config.json"
    settings = json.loads(file.read_text("utf-8")) | {"target_modules": ["w1", "w2"]}
    file.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"does not fit .*tiny_model: NoMatching.*: Target modu"):
        load_adapter(base, copy)
