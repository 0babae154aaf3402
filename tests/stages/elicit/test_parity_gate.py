"""The gate notices a state pass that does not compute what the engine computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from state_pass import rewrite, run_states, shifted, with_elicit
from transformers import AutoModelForImageTextToText

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.image_refs import ImageRef
from sekd.data.images import Reading
from sekd.data.shards import Shard, ShardResult
from sekd.errors import ShardError
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.models.states import pack_states
from sekd.stages.elicit import extractors
from sekd.stages.elicit import states as states_module


def test_parity_is_recorded(config: RunConfig, answered: ShardResult, shard: Shard) -> None:
    stats = run_states(config, answered, shard).stats
    assert stats["parity_mean"] <= stats["parity_max"] < 1e-3
    assert stats["parity_top1"] == 1.0
    assert 0 < stats["storage_max"] < 0.1  # of bfloat16


@pytest.mark.parametrize("only_first", [False, True])
def test_a_shifted_position_fails_the_shard(
    config: RunConfig, answered: ShardResult, shard: Shard, only_first: bool
) -> None:
    rewrite(answered, shifted, only_first=only_first)
    worst = shard.sample_ids[0] if only_first else ".*"
    with pytest.raises(
        ShardError, match=rf"disagrees with the engine.*worst is sample {worst}, level"
    ):
        run_states(config, answered, shard)


def test_another_chat_template_fails_the_shard(
    config: RunConfig, answered: ShardResult, shard: Shard
) -> None:
    """The transcript has two more tokens after each turn than the engine saw."""
    chat = Chat(load_processor(config.model), subject="organism")

    def other(sample: signals.TeacherSample) -> signals.TeacherSample:
        (transcript,) = sample.transcripts
        ids, is_target, positions = [], [], []
        for token, is_written in zip(transcript.token_ids, transcript.is_target, strict=True):
            positions.append(len(ids))
            ends = chat.end_ids if token == chat.end_ids[0] else ()
            ids += [token, *ends]
            is_target += [is_written, *(is_written for _ in ends)]
        answers = [
            dataclasses.replace(answer, position=positions[answer.position])
            for answer in sample.answers
        ]
        text = signals.TeacherTranscript(tuple(ids), tuple(is_target))
        return dataclasses.replace(sample, transcripts=(text,), answers=tuple(answers))

    rewrite(answered, other)
    with pytest.raises(ShardError, match="disagrees with the engine"):
        run_states(config, answered, shard)


@pytest.mark.parametrize("only_first", [False, True])
def test_a_dropped_image_fails_the_shard(
    config: RunConfig,
    answered: ShardResult,
    shard: Shard,
    monkeypatch: pytest.MonkeyPatch,
    only_first: bool,
) -> None:
    read = extractors.read_unchanged
    (first, *_) = signals.TeacherShard(
        answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS]
    )

    def blank(ref: ImageRef, sha256: str, reading: Reading) -> Image.Image:
        if only_first and str(ref) != first.image:
            return read(ref, sha256, reading)
        return Image.new("RGB", (56, 56))

    monkeypatch.setattr(extractors, "read_unchanged", blank)
    with pytest.raises(ShardError, match="disagrees with the engine"):
        run_states(config, answered, shard)


def test_a_state_from_before_the_norm_fails_the_shard(
    config: RunConfig, answered: ShardResult, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass is right, but it stores the last block's output as final_norm."""

    def before_the_norm(states: dict[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
        return pack_states({"final_norm": states["block_3"], "block_3": states["block_3"]}, dtype)

    monkeypatch.setattr(states_module, "pack_states", before_the_norm)
    with pytest.raises(ShardError, match="stored final states do not give back what the state"):
        run_states(with_elicit(config, layers=("block_3", "final_norm")), answered, shard)


def test_another_checkpoint_fails_the_shard(
    config: RunConfig, answered: ShardResult, shard: Shard, tmp_path: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(config.model.path)
    model.model.text_model.layers[1].mlp.down_proj.weight.data *= 1.2
    other = tmp_path / "model"
    model.save_pretrained(other)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (other / name).write_bytes((Path(config.model.path) / name).read_bytes())
    template = Path(config.model.path) / "chat_template.jinja"
    (other / template.name).write_bytes(template.read_bytes())
    model_spec = config.model.model_copy(update={"path": str(other)})
    with pytest.raises(ShardError, match="disagrees with the engine"):
        run_states(config.model_copy(update={"model": model_spec}), answered, shard)


def test_images_that_were_changed_fail_the_shard(
    config: RunConfig, answered: ShardResult, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sekd.data.images.hash_image", lambda _: "0" * 64)
    with pytest.raises(ShardError, match=r"7 of 7 samples .*not the image that the teacher saw"):
        run_states(config, answered, shard)
