"""The parity gate is loud for each fault of a model of the gallery, in both precisions.

That it is quiet for each right model is tested with the walks of the families.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from gallery_models import RUNS_ALL, gallery_spec
from gallery_walks import Teacher, mixed_config
from PIL import Image
from safetensors.torch import load_file, save_file

from sekd.config import RunConfig
from sekd.errors import ConfigError, ShardError
from sekd.models.head import LMHead, LogitTransform
from sekd.stages.elicit.states import StatesWorker

FAMILIES = ("llava-next", "muse-glimmer")
if RUNS_ALL:
    FAMILIES = ("llava-next", "gemma3", "muse-glimmer", "mllama", "granite4-vision", "qwen2.5-vl")
HARDLY_SEE = ("gemma3", "muse-glimmer")
"""With their random weights, an image moves log-probabilities by less than 0.05."""
DTYPES = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def teach(
    mixed_world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Any], Teacher]:
    """Elicit the answers of a family once."""

    @cache
    def teacher(name: str, dtype: Any) -> Teacher:
        folder = tmp_path_factory.mktemp("run")
        config = mixed_config(mixed_world, folder, gallery_spec(name, dtype))
        return Teacher(config, folder / "answers")

    return teacher


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_model(config: RunConfig, folder: Path, change: Callable[[dict[str, Any]], None]) -> Any:
    """Return the config with a changed copy of its model."""
    shutil.copytree(config.model.path, folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
    model = config.model.model_copy(update={"path": str(folder)})
    return config.model_copy(update={"model": model})


def open_states(teacher: Teacher) -> StatesWorker:
    return StatesWorker(teacher.config, {0: teacher.files})


@pytest.mark.parametrize("name", FAMILIES)
def test_another_checkpoint(name: str, dtype: str, teach: Any, tmp_path: Path) -> None:
    teacher = teach(name, dtype)

    def change(weights: dict[str, Any]) -> None:
        (first, *_) = [each for each in weights if "layers.0.mlp.down_proj" in each]
        weights[first] = weights[first].flip(0).contiguous()

    with pytest.raises(ShardError, match="disagrees with the engine"):
        teacher.states(with_model(teacher.config, tmp_path / "other", change))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_key(name: str, dtype: str, teach: Any, tmp_path: Path) -> None:
    """Loading refuses the checkpoint; if it did not, random weights would not pass the gate."""
    teacher = teach(name, dtype)

    def change(weights: dict[str, Any]) -> None:
        (first, *_) = [each for each in weights if "layers.0.mlp.down_proj" in each]
        del weights[first]

    with pytest.raises((ConfigError, ShardError)):
        teacher.states(with_model(teacher.config, tmp_path / "other", change))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_dropped_image(
    name: str, dtype: str, teach: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype == "bfloat16" and name in HARDLY_SEE:
        pytest.skip("an image changes less than the limit of half precision")
    teacher = teach(name, dtype)
    worker = open_states(teacher)
    batcher = worker._extractor._batcher
    process = batcher._process

    def blank(images: Sequence[Image.Image]) -> dict[str, Any]:
        return process([Image.new("RGB", image.size) for image in images])

    monkeypatch.setattr(batcher, "_process", blank)
    with pytest.raises(ShardError, match="disagrees with the engine"):
        worker.process(teacher.shard, tmp_path, lambda _: None)


def test_an_unscaled_head(dtype: str, teach: Any, tmp_path: Path) -> None:
    teacher = teach("muse-glimmer", dtype)
    worker = open_states(teacher)
    transform = worker._extractor.head.transform
    assert (transform.scale, transform.cap) == (0.5, pytest.approx(20.0))
    worker._extractor.head = LMHead(worker._extractor._lm_head, LogitTransform())
    with pytest.raises(
        ShardError,
        match=r"whose logits are 0\.5 times its own: .*; set elicit\.engine",
    ):
        worker.process(teacher.shard, tmp_path, lambda _: None)
