"""A right model passes every check, and each kind of wrong one fails the check that is about it."""

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
from sekd.models.head import LMHead
from sekd.stages import model_check
from sekd.stages.model_check import Finding, ModelCheck, run_model_check

ALL = (
    *("config", "processor", "template", "reasoning", "letters", "first token", "picture"),
    *("blocks", "adapter", "transformers", "vllm", "weights", "head", "dialogue"),
)


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model, to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise ConfigError("the vllm engine is not installed")

    monkeypatch.setattr(model_check, "engine_version", fail)


def check(folder: Path, **settings: object) -> ModelCheck:
    return run_model_check(ModelSpec(path=str(folder), dtype="float32", **settings))


def by_name(checked: ModelCheck) -> dict[str, Finding]:
    return {finding.name: finding for finding in checked.findings}


def change(file: Path, **settings: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), encoding="utf-8")


def test_a_right_model_passes(tiny_model: Path) -> None:
    checked = check(tiny_model)
    findings = by_name(checked)
    assert tuple(findings) == ALL
    assert {name: f.verdict for name, f in findings.items() if f.verdict != "yes"} == {
        "vllm": "untested"
    }
    assert (checked.is_usable, checked.failed, checked.untested) == (True, [], ["vllm"])
    assert findings["config"].detail == "idefics3 (Idefics3ForConditionalGeneration)"
    assert "QUESTION<end_of_utterance><assistant>B<end_of_utterance>" in findings["template"].detail
    assert findings["adapter"].detail.startswith("LoRA on 28 layers: q_proj, k_proj, v_proj,")
    assert findings["dialogue"].detail.startswith("4 answers about a drawn picture; transformers ")


def test_without_weights_everything_else_is_checked(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    checked = check(copy)
    findings = by_name(checked)
    assert checked.is_usable
    assert checked.untested == ["vllm", "weights", "head", "dialogue"]
    assert findings["weights"].detail == "there are none in the directory"
    assert findings["dialogue"].detail == "it needs: weights"
    assert {findings[name].verdict for name in ALL[:10]} == {"yes"}


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.text_model.layers.0.mlp.down_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def break_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")


def forget_type(folder: Path) -> None:
    change(folder / "config.json", model_type="birdnet")


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensor")


def spoil_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.text_model.norm.weight"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "failed", "message", "untested"),
    [
        (drop_weight, ["weights"], "1 missing: model.text_model.layers.0", ["head", "dialogue"]),
        (
            break_template,
            ["template"],
            "chat template",
            ["reasoning", "letters", "first token", "picture", "head", "dialogue"],
        ),
        (
            forget_type,
            ["config"],
            "birdnet",
            ["picture", "blocks", "adapter", "transformers", "weights", "head", "dialogue"],
        ),
        (damage_weights, ["weights"], "cannot load the model", ["head", "dialogue"]),
        (spoil_numbers, ["head", "dialogue"], "logits that are not finite", []),
    ],
)
def test_a_wrong_model_fails_the_check_that_is_about_it(
    copy: Path,
    spoil: Callable[[Path], None],
    failed: list[str],
    message: str,
    untested: list[str],
) -> None:
    spoil(copy)
    checked = check(copy)
    assert checked.failed == failed
    assert message in by_name(checked)[failed[0]].detail
    assert [name for name in checked.untested if name != "vllm"] == untested
    assert not checked.is_usable


def test_a_head_that_is_not_the_models_own_is_found(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = LMHead.logits
    monkeypatch.setattr(LMHead, "logits", lambda *args: own(*args) / 4)
    checked = check(tiny_model)
    assert "head" in checked.failed
    assert "are not those that lm_head reads off" in by_name(checked)["head"].detail


def test_a_processor_argument_without_an_effect_is_told(tiny_model: Path) -> None:
    checked = check(tiny_model, processor_args={"max_pixels": 10**6, "size": {"longest_edge": 64}})
    finding = by_name(checked)["processor"]
    assert finding.verdict == "limited"
    assert (
        finding.detail == "Idefics3Processor ignores max_pixels, or has the same value by default"
    )
    assert finding.advice
    known = by_name(check(tiny_model, processor_args={"size": {"longest_edge": 64}}))["processor"]
    assert known.verdict == "yes"


def test_a_wrong_path_of_the_blocks_is_told(tiny_model: Path) -> None:
    checked = check(tiny_model, decoder_blocks="model.layers")
    assert "'model.layers' is none of" in by_name(checked)["blocks"].detail
    assert checked.failed == ["blocks"]
    assert "adapter" in checked.untested
