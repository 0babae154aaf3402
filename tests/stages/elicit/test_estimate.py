"""The estimate of a rehearsal, compared with what an elicitation took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import transformers as hf
from click.testing import CliRunner

from sekd.cli import main
from sekd.commands.plan import describe_adapter
from sekd.config import LoraSpec, RunConfig
from sekd.data.images import read_image
from sekd.data.samples import Dataset
from sekd.data.signals import ANSWERS, TRANSCRIPTS, TeacherShard
from sekd.errors import ConfigError
from sekd.models import probe
from sekd.models.batching import Batcher
from sekd.models.chat import load_chat
from sekd.stages.elicit import estimate
from sekd.stages.elicit.estimate import estimate_cost, plan_adapter
from sekd.stages.elicit.run import finished_elicitation


def load_dataset(config: RunConfig) -> Dataset:
    return Dataset.load("train", config.data["train"])


def run_command(*arguments: str) -> dict[str, float]:
    result = CliRunner(catch_exceptions=False).invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_a_plan_agrees_with_the_elicitation(config_file: Path, config: RunConfig) -> None:
    plan = run_command("plan", str(config_file))
    assert not (config.run_dir / "answers").exists()
    result = run_command("elicit", str(config_file))
    assert plan["num_samples"] == result["num_samples"]
    assert plan["num_shards"] == 3
    assert plan["num_answers"] == result["num_answers"]
    assert plan["num_prompt_tokens"] == result["num_prompt_tokens"]
    assert plan["num_tokens"] == result["num_prompt_tokens"] - result["num_cached_tokens"]
    assert plan["num_state_tokens"] == count_state_tokens(config)
    files = config.run_dir.glob("*/*/data/*/*")
    num_bytes = sum(path.stat().st_size for path in files)
    # A short shard's Parquet files are mostly footers.
    assert plan["num_bytes"] == pytest.approx(num_bytes, rel=0.5)
    assert "FLOP/s" in str(plan["hours_basis"])
    again = run_command("plan", str(config_file))
    assert "shards that are done" in str(again["hours_basis"])


def count_state_tokens(config: RunConfig) -> int:
    """Count the tokens of a batch of its own for each transcript with answers."""
    chat = load_chat(config.model, subject="organism", answer=config.elicit.answer)
    batcher = Batcher(chat)
    files = finished_elicitation(config).answers.files_by_shard(TRANSCRIPTS, ANSWERS)
    total = 0
    for pair in files.values():
        for sample in TeacherShard(*pair):
            for number in {answer.transcript for answer in sample.answers}:
                image = read_image(Path(sample.image))
                ids = sample.transcripts[number].token_ids
                total += batcher([ids], [image], [sample.image_sha256]).lengths[0]
    return total


@pytest.mark.parametrize("style", ["dialogue", "facts"])
@pytest.mark.parametrize("permutations", [1, 2])
@pytest.mark.parametrize("caches", [True, False], ids=["cached", "not cached"])
def test_the_plan_counts_the_tokens_of_the_engine(
    config_file: Path,
    config: RunConfig,
    style: str,
    permutations: int,
    caches: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every name of the drawn world is one token, so that other answers have the same length."""
    monkeypatch.setattr(estimate, "supports_prefix_reuse", lambda _: caches)
    monkeypatch.setattr(probe, "supports_prefix_reuse", lambda _: caches)
    settings = ("--set", f"elicit.style={style}", "--set", f"elicit.permutations={permutations}")
    plan = run_command("plan", str(config_file), *settings)
    result = run_command("elicit", str(config_file), *settings)
    assert plan["num_prompt_tokens"] == result["num_prompt_tokens"]
    assert plan["num_tokens"] == result["num_prompt_tokens"] - result["num_cached_tokens"]
    assert (result["num_cached_tokens"] > 0) == caches


def test_a_probe_is_extrapolated_to_all_samples(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = estimate_cost(config, load_dataset(config))
    assert (full.num_probed, full.num_samples) == (30, 30)
    monkeypatch.setattr(estimate, "NUM_PROBED", 10)
    part = estimate_cost(config, load_dataset(config))
    assert (part.num_probed, part.num_samples) == (10, 30)
    assert part.num_tokens == pytest.approx(full.num_tokens, rel=0.1)
    num_computed = [each.num_tokens + each.num_state_tokens for each in (part, full)]
    assert part.flops / num_computed[0] == pytest.approx(full.flops / num_computed[1])


def test_unusable_images_are_counted(config: RunConfig, tmp_path: Path) -> None:
    dataset = load_dataset(config)
    rows = [f"{sample.image.path.resolve()},{sample.leaf.name}" for sample in dataset.samples]
    rows[3] = f"gone.png,{dataset.samples[3].leaf.name}"
    table = tmp_path / "t.csv"
    spec = dataset.spec.model_copy(update={"images": None, "table": table})
    table.write_text("\n".join(["image,label", *rows]), encoding="utf-8")
    assert estimate_cost(config, Dataset.load("train", spec)).num_unusable == 1
    table.write_text("\n".join(["image,label", rows[3]]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"none of 1 samples can be used.*gone.png"):
        estimate_cost(config, Dataset.load("train", spec))


def test_the_adapter_is_planned_from_the_models_config_alone(
    config: RunConfig, tmp_path: Path
) -> None:
    hf.Qwen3VLMoeConfig().save_pretrained(tmp_path)
    lora = config.distill.lora.model_copy(update={"load_in_4bit": True})
    planned = plan_adapter(
        config.model_copy(
            update={
                "model": config.model.model_copy(update={"path": str(tmp_path)}),
                "distill": config.distill.model_copy(update={"lora": lora}),
            }
        )
    )
    assert planned.layers == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert planned.frozen_share > 0.9
    experts = ["experts.gate_up_proj", "experts.down_proj"]
    assert planned.frozen_experts == planned.unquantised == experts
    lines = describe_adapter(planned)
    assert lines["adapter"].endswith("q_proj, k_proj, v_proj, o_proj")
    assert "experts.gate_up_proj and experts.down_proj; to adapt those too" in lines["frozen"]
    assert "bitsandbytes quantises linear layers only" in lines["4 bits"]
    assert "engine" not in lines
    unserved = describe_adapter(replace(planned, is_served=False))
    assert unserved["engine"].startswith("vLLM serves no adapters on this model; set evaluate.")


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"target_modules": ("w1",)}, r"target_modules: no linear layer w1 below"),
        ({"target_modules": ("experts.down_proj",)}, r"no linear layer experts\.down_proj below"),
    ],
)
def test_a_plan_refuses_an_adapter_that_cannot_be_trained(
    config: RunConfig, lora: dict[str, object], message: str
) -> None:
    distill = config.distill.model_copy(update={"lora": LoraSpec(**lora)})
    with pytest.raises(ConfigError, match=message):
        plan_adapter(config.model_copy(update={"distill": distill}))


def test_a_plan_refuses_to_quantise_a_quantised_checkpoint(
    config: RunConfig, tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    content = json.loads((tiny_model / "config.json").read_text("utf-8"))
    content["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    changed = config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": str(tmp_path)}),
            "distill": config.distill.model_copy(update={"lora": LoraSpec(load_in_4bit=True)}),
        }
    )
    with pytest.raises(ConfigError, match=r"is quantised already \(gptq\); leave load_in_4bit off"):
        plan_adapter(changed)


def test_a_plan_lists_the_adapted_layers(config_file: Path) -> None:
    plan = run_command("plan", str(config_file))["adapter"]
    assert plan["num_layers"] == 28
    assert plan["unquantised"] == plan["frozen_experts"] == []
    shown = CliRunner(catch_exceptions=False).invoke(main, ["plan", str(config_file)]).stdout
    assert "adapter  139,264 parameters on 28 layers of the language model: q_proj" in shown
    assert max(map(len, shown.splitlines())) <= 80
