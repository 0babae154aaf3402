"""Training as a whole: what stops it, and that runtime settings do not change the result."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from elicited import Elicited
from gallery_models import gallery_spec
from safetensors.torch import load_file

from sekd.config import RunConfig
from sekd.errors import ConfigError, FatalError, SampleError
from sekd.stages.distill import terms
from sekd.stages.distill.train import train
from sekd.stages.distill.trainer import LengthGroupedSampler

RUNTIME = {"batch_size": 2, "num_workers": 0, "logging_steps": 1, "save_steps": 1000}


def short(elicited: Elicited, **changes: object) -> RunConfig:
    """Return a config of four sequences a step, two in each micro-batch."""
    defaults = {"global_batch": 4, "epochs": 2.0, "warmup": 0.0, "runtime": RUNTIME}
    return elicited.with_spec(**defaults | changes)


def sample_ids(elicited: Elicited) -> set[str]:
    return {example.sample.sample_id for example in elicited.dataset(replay=0.0)}


def train_weights(
    elicited: Elicited, directory: Path, **changes: object
) -> dict[str, torch.Tensor]:
    """Train and return the adapter's weights."""
    config = short(elicited, **changes)
    folder = train(config, elicited.taxonomy, [elicited.shard], directory)
    weights = load_file(folder / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
    return weights


def test_a_loss_that_is_not_finite_stops_and_names_the_samples(
    elicited: Elicited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits[:, 0] * float("nan")

    monkeypatch.setattr(terms, "hard_loss", broken)
    with pytest.raises(FatalError, match="the loss is nan at step 0; the samples: ") as stopped:
        train(short(elicited), elicited.taxonomy, [elicited.shard], tmp_path)
    assert sum(sample_id in str(stopped.value) for sample_id in sample_ids(elicited)) >= 1
    assert not (tmp_path / "adapter").exists()


def test_a_model_that_fails_stops_and_names_the_samples(
    elicited: Elicited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("split_with_sizes expects split_sizes to sum exactly to 64")

    monkeypatch.setattr(terms, "hard_loss", broken)
    with pytest.raises(
        FatalError, match=r"fails on a micro-batch at step 0: .*64; the sam"
    ) as error:
        train(short(elicited), elicited.taxonomy, [elicited.shard], tmp_path)
    assert any(sample_id in str(error.value) for sample_id in sample_ids(elicited))


def test_a_model_that_sees_its_targets_is_refused(elicited: Elicited, tmp_path: Path) -> None:
    """PaliGemma attends in both directions over its prompt."""
    config = short(elicited).model_copy(update={"model": gallery_spec("paligemma")})
    with pytest.raises(ConfigError, match=r"PaliGemma.* reads its prompt in both directions"):
        train(config, elicited.taxonomy, [elicited.shard], tmp_path)


def test_an_exploding_loss_stops_and_names_the_samples(
    elicited: Elicited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the second step is multiplied by a thousand."""
    calls, hard_loss = [], terms.hard_loss

    def exploding(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(targets)
        # There are three calls in each micro-batch (letters, branches of names, other tokens), and
        # two micro-batches in each step.
        return hard_loss(logits, targets) * (1000 if len(calls) > 6 else 1)

    monkeypatch.setattr(terms, "hard_loss", exploding)
    config = short(elicited, replay=0.0)
    with pytest.raises(
        FatalError, match=r"the loss is .* at step 1, .* at most.*learning_"
    ) as stopped:
        train(config, elicited.taxonomy, [elicited.shard], tmp_path)
    assert sum(sample_id in str(stopped.value) for sample_id in sample_ids(elicited)) == 2


def test_a_gradient_that_is_not_finite_stops_and_names_the_samples_of_the_step(
    elicited: Elicited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss itself is finite. The step is not taken and no checkpoint of it is saved."""
    calls, hard_loss = [], terms.hard_loss

    def broken(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(targets)
        if len(calls) == 7:  # the letters, in the first micro-batch of the second step
            logits.register_hook(lambda gradient: gradient * float("nan"))
        return hard_loss(logits, targets)

    monkeypatch.setattr(terms, "hard_loss", broken)
    config = short(elicited, replay=0.0, runtime=RUNTIME | {"save_steps": 1})
    with pytest.raises(FatalError, match=r"the gradient's norm is nan at step 1; the") as stopped:
        train(config, elicited.taxonomy, [elicited.shard], tmp_path)
    assert all(sample_id in str(stopped.value) for sample_id in sample_ids(elicited))
    assert [path.name for path in tmp_path.glob("checkpoints/*")] == ["checkpoint-1"]


def test_a_global_batch_that_is_no_multiple_is_refused(elicited: Elicited, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="50 is no multiple of 8"):
        train(elicited.with_spec(global_batch=50), elicited.taxonomy, [elicited.shard], tmp_path)


def test_gradient_checkpointing_does_not_change_the_weights(
    elicited: Elicited, tmp_path: Path
) -> None:
    plain = train_weights(elicited, tmp_path / "plain", replay=0.5)
    runtime = RUNTIME | {"gradient_checkpointing": True}
    checkpointed = train_weights(elicited, tmp_path / "checkpointed", replay=0.5, runtime=runtime)
    assert plain.keys() == checkpointed.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(checkpointed[name], tensor, rtol=1e-4, atol=1e-6)


def test_workers_do_not_change_the_weights(elicited: Elicited, tmp_path: Path) -> None:
    """The order of options in the second epoch and dropout are the same, too."""
    settings = {"replay": 0.5, "lora": {"dropout": 0.2}}
    without = train_weights(elicited, tmp_path / "without", **settings)
    runtime = RUNTIME | {"num_workers": 2}
    with_workers = train_weights(elicited, tmp_path / "with", **settings, runtime=runtime)
    assert without.keys() == with_workers.keys()
    assert all(torch.equal(with_workers[name], tensor) for name, tensor in without.items())


def test_an_error_from_a_worker_has_the_same_message(elicited: Elicited, tmp_path: Path) -> None:
    changed = tmp_path / "changed.parquet"
    table = pq.read_table(elicited.shard.transcripts)
    hashes = pa.array(["0" * 64] * len(table))
    column = table.schema.get_field_index("image_sha256")
    pq.write_table(table.set_column(column, table.schema.field(column), hashes), changed)
    shard = replace(elicited.shard, transcripts=changed)
    messages = []
    for num_workers in (0, 1):
        config = short(elicited, runtime=RUNTIME | {"num_workers": num_workers})
        with pytest.raises(SampleError) as stopped:
            train(config, elicited.taxonomy, [shard], tmp_path / f"{num_workers}")
        messages.append(str(stopped.value))
    assert messages[0] == messages[1]
    assert ".png" in messages[0]


def test_the_adapter_is_float32_over_a_half_precision_base(
    elicited: Elicited, tmp_path: Path
) -> None:
    """Small updates would be rounded away in bfloat16; PEFT keeps the adapter in float32."""
    config = short(elicited, learning_rate=1e-5, epochs=1.0, replay=0.0)
    model = config.model.model_copy(update={"dtype": "bfloat16"})
    config = config.model_copy(update={"model": model})
    folder = train(config, elicited.taxonomy, [elicited.shard], tmp_path)
    weights = load_file(folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)


def test_every_step_is_a_whole_global_batch(elicited: Elicited) -> None:
    """The last batch of an epoch is filled with sequences of the same epoch."""
    dataset = elicited.dataset(replay=0.5)
    assert len(dataset) == 8
    for global_batch, num_batches in ((3, 3), (8, 1), (20, 1)):
        sampler = LengthGroupedSampler(dataset, global_batch, seed=0)
        order = list(sampler)
        assert len(order) == len(sampler) == num_batches * global_batch
        counts = Counter(order)
        assert counts.keys() == set(range(8))
        assert max(counts.values()) - min(counts.values()) <= 1
        assert order == list(sampler)
        dataset.set_epoch(1)
        assert global_batch == 20 or order != list(sampler)
        dataset.set_epoch(0)


def test_replayed_sequences_are_dealt_to_the_processes(elicited: Elicited) -> None:
    """The content of a global batch is that of one process; no process waits for another's work."""
    dataset = elicited.dataset(replay=0.5)
    one = list(LengthGroupedSampler(dataset, 8, seed=0))
    two = list(LengthGroupedSampler(dataset, 8, seed=0, num_processes=2, batch_size=4))
    assert sorted(one) == sorted(two)
    counts = [sum(dataset.is_replay[index] for index in half) for half in (two[:4], two[4:])]
    assert counts == [2, 2]
