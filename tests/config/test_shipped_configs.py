"""Every config below configs/ is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sekd.config import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.y*ml"))


def test_every_model_family_and_dataset_has_a_config() -> None:
    text = " ".join(path.name for path in CONFIGS)
    assert all(name in text for name in ("qwen2.5-vl-7b", "internvl3-8b", "llava-onevision-7b"))
    assert all(name in text for name in ("cub200", "inat21", "food101"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_loads_and_its_datasets_exist(path: Path) -> None:
    config = load_config(path)
    config.dataset(config.elicit.dataset, "elicit.dataset")
    for name in config.evaluate.datasets:
        config.dataset(name, "evaluate.datasets")
