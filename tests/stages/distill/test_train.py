"""Training as a whole: what stops it, and that how it is carried out changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sekd.config import RunConfig
from sekd.errors import ConfigError, FatalError
from sekd.stages.distill import objective, trainer
from sekd.stages.distill.train import train

from .conftest import Elicited


def short(elicited: Elicited, **changes: object) -> RunConfig:
    """Four sequences a step, two at a time."""
    runtime = {"batch_size": 2, "logging_steps": 1, "save_steps": 1000}
    defaults = {"global_batch": 4, "epochs": 2.0, "warmup": 0.0, "runtime": runtime}
    return elicited.with_spec(**defaults | changes)


def test_a_loss_that_is_not_finite_stops_with_the_samples(
    elicited: Elicited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits[:, 0] * float("nan")

    monkeypatch.setattr(objective, "hard_loss", broken)
    sample_ids = {lesson.sample.sample_id for lesson in elicited.lessons(replay=0.0)}
    with pytest.raises(FatalError, match="the loss is nan at step 0; the samples: ") as stopped:
        train(short(elicited), elicited.taxonomy, [elicited.shard], tmp_path)
    assert sum(sample_id in str(stopped.value) for sample_id in sample_ids) >= 1
    assert not (tmp_path / "adapter").exists()


def test_an_exploding_loss_stops_with_the_samples(
    elicited: Elicited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a learning rate that is far too high."""
    monkeypatch.setattr(trainer, "_NUM_FIRST", 2)
    config = short(elicited, learning_rate=30.0, epochs=20.0, replay=0.0)
    with pytest.raises(FatalError, match=r"the loss is .* at step \d+(, .* at most)?.*learning_"):
        train(config, elicited.taxonomy, [elicited.shard], tmp_path)


def test_a_global_batch_that_does_not_divide_is_refused(elicited: Elicited, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="50 is no multiple of 8"):
        train(elicited.with_spec(global_batch=50), elicited.taxonomy, [elicited.shard], tmp_path)


def test_activation_checkpointing_changes_nothing(elicited: Elicited, tmp_path: Path) -> None:
    adapters = []
    for is_on in (False, True):
        runtime = {"batch_size": 2, "gradient_checkpointing": is_on}
        config = short(elicited, replay=0.5, runtime=runtime)
        folder = train(config, elicited.taxonomy, [elicited.shard], tmp_path / f"{is_on}")
        adapters.append(load_file(folder / "adapter_model.safetensors"))
    plain, checkpointed = adapters
    assert plain.keys() == checkpointed.keys()
    assert any(tensor.abs().max() > 0 for name, tensor in plain.items() if "lora_B" in name)
    for name, tensor in plain.items():
        torch.testing.assert_close(checkpointed[name], tensor, rtol=1e-4, atol=1e-6)
