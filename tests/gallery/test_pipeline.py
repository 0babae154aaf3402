"""Every family goes the whole way: plan, elicit, distill, evaluate, merge.

A run of the tests takes families that differ much from one another; ``make test-gallery`` takes
all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from gallery_models import FAMILY_NAMES, READS_BOTH_WAYS, RUNS_ALL, gallery_spec
from gallery_walks import NUM_SAMPLES, mixed_config

from sekd import api
from sekd.config import DistillSpec, EvaluateSpec, LoraSpec
from sekd.errors import ConfigError
from sekd.models.merge import merged_model

FAST = ("qwen2.5-vl", "gemma3", "lfm2-vl", "qwen3-vl-moe")
TAKEN = FAMILY_NAMES if RUNS_ALL else FAST


@pytest.mark.parametrize("style", ["dialogue", "facts"])
@pytest.mark.parametrize("name", TAKEN)
def test_a_family_goes_the_whole_way(
    name: str, style: Literal["dialogue", "facts"], mixed_world: Path, tmp_path: Path
) -> None:
    config = mixed_config(mixed_world, tmp_path, gallery_spec(name), style=style)
    lora = LoraSpec(rank=4, alpha=8, dropout=0.0)
    config = config.model_copy(
        update={
            "distill": DistillSpec(epochs=3.0, global_batch=8, learning_rate=0.001, lora=lora),
            "evaluate": EvaluateSpec(
                datasets=("train",),
                paradigms=("joint", "conditioned"),
                controls=("blind",),
                engine="transformers",
                num_bootstrap=10,
            ),
        }
    )
    plan = api.plan(config)
    assert plan.cost.num_samples == NUM_SAMPLES
    assert plan.adapter.num_layers > 0
    if name in READS_BOTH_WAYS:
        with pytest.raises(ConfigError, match="in both directions"):
            api.elicit(config)
        return
    elicited = api.elicit(config)
    assert elicited.num_samples >= NUM_SAMPLES - 2  # a few processors refuse the thin or small one
    assert elicited.num_samples + elicited.num_quarantined == NUM_SAMPLES
    if style == "facts":
        return
    adapter = api.distill(config)
    evaluation = api.evaluate(config)
    for model in ("base", "student"):
        rate = evaluation.rate("train", model, "conditioned", "hca")
        assert rate is not None
        assert 0 <= rate.value <= 100
    assert list(merged_model(config.model, adapter).glob("*.safetensors"))
