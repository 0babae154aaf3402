"""Every family goes the whole way: plan, elicit, distill, evaluate, merge.

A run of the tests takes the families of ``FAST``, which differ most from one another; all of them
go with ``make test-families``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torchvision", exc_type=RuntimeError)

from gallery_families import FAMILIES
from gallery_parts import Family
from gallery_pictures import write_pictures

from sekd import api
from sekd.config import ModelSpec
from sekd.models.merge import merged_model

FAST = {"qwen2.5-vl", "llava", "gemma3", "lfm2-vl", "aya-vision", "qwen3-vl-moe"}
TAKEN = [
    family for family in FAMILIES if family.name in FAST or os.environ.get("SEKD_ALL_FAMILIES")
]
REFUSED: dict[str, str] = {}
"""Families that cannot be elicited from, and the words that say why."""


CONFIG = """
run_dir: {folder}/run
model: {{path: {folder}/model, dtype: float32}}
data:
  train: {{images: {folder}/images, taxonomy: {folder}/taxonomy.json}}
elicit:
  engine: transformers
  style: {style}
  permutations: 2
  max_quarantined: 0.2
  runtime: {{batch_size: 4, shard_size: 4}}
distill:
  epochs: 1.0
  global_batch: 4
  lora: {{rank: 4, alpha: 8, dropout: 0.0}}
  runtime: {{batch_size: 2}}
evaluate:
  datasets: [train]
  paradigms: [joint, conditioned]
  controls: [blind]
  engine: transformers
  num_bootstrap: 10
"""
"""Pictures of all kinds, asked in two orders, with little training."""


@pytest.mark.parametrize("style", ["dialogue", "facts"])
@pytest.mark.parametrize("family", TAKEN, ids=lambda family: family.name)
def test_a_family_goes_the_whole_way(family: Family, style: str, tmp_path: Path) -> None:
    model = family.save(tmp_path / "model")
    write_pictures(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(folder=tmp_path, style=style), encoding="utf-8")
    plan = api.plan(config)
    elicited = api.elicit(config)
    assert elicited.num_samples + elicited.num_quarantined == 8
    assert elicited.num_quarantined <= 1  # the thin picture
    assert plan.cost.num_samples == 8
    if style == "facts":
        return
    adapter = api.distill(config)
    evaluation = api.evaluate(config)
    for who in ("base", "student"):
        assert 0 <= evaluation.rate("train", who, "conditioned", "hca").value <= 100
    merged = merged_model(ModelSpec(path=str(model), dtype="float32"), adapter)
    assert list(merged.glob("*.safetensors"))
