"""A student that sees its images in fewer tokens than its teacher."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from elicited import Elicited, elicit
from gallery_models import gallery_spec

from sekd.config import ModelSpec, RunConfig
from sekd.errors import ConfigError
from sekd.models.adapters import adapted_spec, read_processor_args, write_processor_args
from sekd.models.batching import Batcher
from sekd.models.chat import load_chat
from sekd.stages.distill.collate import DistillCollator
from sekd.stages.distill.images import compare_images, student_spec
from sekd.stages.distill.train import distill_spec, train

TILED = {"do_image_splitting": True, "size": {"longest_edge": 112}}
"""Of the teacher: four tiles of the tiny model's size, and an overview."""
WHOLE = {"do_image_splitting": False, "size": {"longest_edge": 56}}
"""Of the student: the overview alone."""


@pytest.fixture(scope="module")
def tiled(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Elicited:
    folder = tmp_path_factory.mktemp("tiled")
    return elicit(world, folder, f"model.processor_args={json.dumps(TILED)}")


def with_args(config: RunConfig, args: dict[str, Any], **others: Any) -> RunConfig:
    changed = config.distill.model_copy(update={"processor_args": args, **others})
    return config.model_copy(update={"distill": changed})


def gallery_config(config: RunConfig, name: str, args: dict[str, Any]) -> RunConfig:
    return with_args(config.model_copy(update={"model": gallery_spec(name)}), args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("qwen2.5-vl", {"max_pixels": 4 * 28 * 28}),
        ("qwen3-vl", {"size": {"shortest_edge": 32 * 32, "longest_edge": 4 * 32 * 32}}),
        ("idefics3", {"size": {"longest_edge": 56}}),
        ("glm-4v", {"size": {"shortest_edge": 28 * 28, "longest_edge": 4 * 28 * 28}}),
    ],
)
def test_the_student_of_a_real_family_sees_fewer_tokens(
    config: RunConfig, name: str, args: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    images = compare_images(gallery_config(config, name, args))
    assert images is not None
    assert images.student_tokens < images.teacher_tokens
    assert f"{images.student_tokens} tokens for one of 1024x1024 pixels in the" in caplog.text


def test_without_arguments_nothing_is_compared_and_no_fingerprint_changes(
    config: RunConfig,
) -> None:
    assert compare_images(config) is None
    assert student_spec(config) == config.model
    assert "processor_args" not in distill_spec(config)["distill"]
    fewer = distill_spec(with_args(config, {"max_pixels": 1}))["distill"]
    assert fewer["processor_args"] == {"max_pixels": 1}


def test_the_students_arguments_go_over_those_of_the_model(config: RunConfig) -> None:
    model = config.model.model_copy(update={"processor_args": {"min_pixels": 1, "max_pixels": 9}})
    config = with_args(config.model_copy(update={"model": model}), {"max_pixels": 4})
    assert student_spec(config).processor_args == {"min_pixels": 1, "max_pixels": 4}


def test_an_argument_that_the_processor_does_not_know_is_warned_of(
    config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    compare_images(gallery_config(config, "idefics3", {"max_pixels": 3136}))
    assert "distill.processor_args {'max_pixels': 3136}: no fewer tokens" in caplog.text


@pytest.mark.parametrize("args", [{"size": {"longest_edge": 56}}, {"size": "small"}])
def test_arguments_that_the_processor_does_not_take_are_refused(
    config: RunConfig, args: dict[str, Any]
) -> None:
    """A Qwen processor wants two edges."""
    with pytest.raises(ConfigError, match=r"^distill\.processor_args \{'size': "):
        compare_images(gallery_config(config, "qwen2.5-vl", args))


def test_training_sees_the_shorter_images_and_the_adapter_keeps_their_arguments(
    tiled: Elicited, tmp_path: Path
) -> None:
    """Every target is checked against its token in the shorter input, or training stops."""
    runtime = {"batch_size": 2, "num_workers": 0, "logging_steps": 1}
    config = tiled.with_spec(processor_args=WHOLE, global_batch=4, epochs=1.0, runtime=runtime)
    adapter = train(config, tiled.taxonomy, [tiled.shard], tmp_path)
    assert read_processor_args(adapter) == WHOLE
    assert adapted_spec(config.model, adapter).processor_args == WHOLE
    assert '"longest_edge": 56' in (adapter / "README.md").read_text("utf-8")


def test_joint_and_replayed_sequences_are_shorter_by_the_same_tokens(tiled: Elicited) -> None:
    """The base model reads the replayed inputs, too, so both see the student's image."""
    examples = list(tiled.dataset(replay=0.5))
    batches = []
    for spec in (tiled.config.model, student_spec(tiled.with_spec(processor_args=WHOLE))):
        chat = load_chat(spec, subject="organism")
        arguments = ("input_ids", "attention_mask", "pixel_values", "pixel_attention_mask")
        batches.append(DistillCollator(Batcher(chat, arguments))(examples))
    (long_joint, long_replay), (joint, replay) = ((b.joint, b.replay) for b in batches)
    assert long_joint is not None
    assert joint is not None
    assert long_replay is not None
    assert replay is not None
    for long, short in ((long_joint, joint), (long_replay, replay)):
        fewer = long.targets.positions_N - short.targets.positions_N
        assert len(set(fewer.tolist())) == 1
        assert fewer[0] > 4 * 4  # four tiles of four tokens, and what stands around them
        assert long.targets.token_ids_N.tolist() == short.targets.token_ids_N.tolist()


def test_an_adapter_that_is_trained_further_keeps_its_arguments(
    config: RunConfig, adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    for file in adapter.iterdir():
        (first / file.name).write_bytes(file.read_bytes())
    write_processor_args(first, WHOLE)
    tiled_model = ModelSpec(path=config.model.path, dtype="float32", processor_args=TILED)
    config = config.model_copy(update={"model": tiled_model})
    further = with_args(config, {}, initial_adapter=first)
    assert student_spec(further).processor_args == WHOLE
    compare_images(further)
    assert "trained further" not in caplog.text
    compare_images(with_args(config, {"size": {"longest_edge": 28}}, initial_adapter=first))
    assert "distill.initial_adapter was trained with" in caplog.text
