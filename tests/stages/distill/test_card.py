"""The model card of an adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from sekd.config import DistillSpec, LoraSpec, LossWeights, ModelSpec, RunConfig
from sekd.stages.distill.card import base_licence, hub_name, model_card

PATH = "model.language_model.layers"
MODULES = [f"{PATH}.{block}.self_attn.q_proj" for block in (*range(12), 14, 20, 21)]
MODULES += [f"{PATH}.3.mlp.up_proj"]


def test_the_card_lists_every_adapted_layer(config: RunConfig) -> None:
    card = model_card(config, MODULES, [])
    assert "- Adapted: 16 linear layers of the language model" in card
    assert f"| `{PATH}.*.self_attn.q_proj` | 0-11, 14, 20-21 |\n" in card
    assert f"| `{PATH}.*.mlp.up_proj` | 3 |\n\n</details>" in card


def test_the_card_says_whose_labels_were_learned(config: RunConfig) -> None:
    assert "No human label" in model_card(config, MODULES, [])
    losses = LossWeights(soft=0.0, feature=0.0)
    baseline = config.model_copy(update={"distill": DistillSpec(labels="truth", losses=losses)})
    card = model_card(baseline, MODULES, [])
    assert "No human label" not in card
    assert "from the labels that the images came with" in card


@pytest.mark.parametrize(
    ("formats", "known", "unknown"),
    [
        (("quiz",), ("Use it with sekd's joint prompt (\"You are",), ("open naming", "options.")),
        (("open",), ("Use it with sekd's prompt of open naming (\"Name the",), ("joint", "pass")),
        (("quiz", "open"), ("in one pass and to name the path", "Or use it with"), ()),
    ],
)
def test_the_card_says_which_prompts_were_learned(
    config: RunConfig, formats: tuple[str, ...], known: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    taught = config.model_copy(update={"distill": DistillSpec(formats=formats)})
    card = " ".join(model_card(taught, MODULES, []).split("```yaml")[0].split())
    assert all(text in card for text in known), card
    assert not any(text in card for text in unknown), card
    assert "{" not in card


def test_the_card_offers_vllm_except_for_dora(config: RunConfig) -> None:
    assert "or as a LoRA adapter in vLLM." in model_card(config, MODULES, [])
    dora = config.model_copy(update={"distill": DistillSpec(lora=LoraSpec(dora=True))})
    assert "Load it with `PeftModel.from_pretrained`.\n" in model_card(dora, MODULES, [])


def test_the_card_shows_the_last_logged_terms(config: RunConfig) -> None:
    history = [{"loss": 2.0, "hard": 1.0}, {"loss": 1.5, "hard": 0.25}, {"train_runtime": 3.0}]
    card = model_card(config, MODULES, history)
    assert "| loss | 1.5000 |\n| hard | 0.2500 |" in card


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("/hub/models--org--a-model/snapshots/0a1b", "org/a-model"),
        ("/hub/models--org--a-model", "org/a-model"),
        (".", None),
    ],
)
def test_the_base_has_its_name_on_the_hub(path: str, name: str | None) -> None:
    assert hub_name(ModelSpec(path=path)) == name


def test_the_licence_is_that_of_the_bases_own_card(config: RunConfig, tmp_path: Path) -> None:
    base = config.model.model_copy(update={"path": str(tmp_path)})
    assert base_licence(base) is None
    (tmp_path / "README.md").write_text("no metadata here")
    assert base_licence(base) is None
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert base_licence(base) == "apache-2.0"
    card = model_card(config.model_copy(update={"model": base}), MODULES, [])
    assert "\nlicense: apache-2.0\n" in card
    assert "- Licence: apache-2.0\n" in card
