"""The state pass: the right positions, the right states, and a gate that notices when not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.errors import ConfigError, SampleError, ShardError
from sekd.stages.elicit import states as states_module
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker
from sekd.stages.models import load_model

NUM_SAMPLES = 7  # two batches of the config's five


def ignore(_: int) -> None:
    pass


@pytest.fixture
def shard(config: RunConfig) -> Shard:
    dataset = Dataset.load("train", config.data["train"])
    return Shard(0, tuple(sample.id for sample in dataset.samples[:NUM_SAMPLES]))


@pytest.fixture
def answered(config: RunConfig, shard: Shard, tmp_path: Path) -> ShardResult:
    folder = tmp_path / "answers"
    folder.mkdir()
    worker = AnswersWorker(config, Dataset.load("train", config.data["train"]))
    result = worker.process(shard, folder, ignore)
    worker.close()
    return result


def run_states(config: RunConfig, answered: ShardResult, shard: Shard) -> ShardResult:
    files = (answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS])
    folder = files[0].parent.parent / "states"
    folder.mkdir(exist_ok=True)
    worker = StatesWorker(config, {0: files})
    try:
        return worker.process(shard, folder, ignore)
    finally:
        worker.close()


def with_elicit(config: RunConfig, **changes: object) -> RunConfig:
    return config.model_copy(update={"elicit": config.elicit.model_copy(update=changes)})


def test_states_are_those_of_a_plain_forward(
    config: RunConfig, answered: ShardResult, shard: Shard
) -> None:
    """Held against output_hidden_states of one unpadded forward per image, position by position."""
    config = with_elicit(config, layers=("block_0", "middle", "final_norm"), state_dtype="float32")
    result = run_states(config, answered, shard)
    tensors = load_file(result.files[signals.STATES])
    rows = signals.read_state_rows(result.files[signals.STATE_ROWS])
    assert set(tensors) == {"block_0", "block_2", "final_norm"}
    model = load_model(config.model)
    worker = StatesWorker(config, {})  # for its batcher, which the engines' suite holds to account
    samples = signals.TeacherShard(
        answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS]
    )
    for sample in samples:
        image = Image.open(sample.image).convert("RGB")
        batch = worker._batcher([sample.token_ids], [image], [sample.image_sha256])
        with torch.inference_mode():
            output = model(**batch.inputs, output_hidden_states=True)
        letters = batch.inputs["input_ids"][0].tolist()
        for answer in sample.answers:
            position = answer.position + batch.shifts[0]
            assert letters[position] == answer.letter_ids[answer.choice]
            row = rows[sample.sample_id, answer.level]
            for name, layer in (("block_0", 1), ("block_2", 3), ("final_norm", 4)):
                expected = output.hidden_states[layer][0, position - 1]
                torch.testing.assert_close(tensors[name][row], expected, atol=1e-4, rtol=1e-4)


def test_the_final_state_gives_the_distribution_back(
    config: RunConfig, answered: ShardResult, shard: Shard
) -> None:
    """lm_head of a bfloat16 state: the stored option log-probabilities to 1e-2 in probability."""
    result = run_states(config, answered, shard)
    final = load_file(result.files[signals.STATES])["final_norm"]
    assert final.dtype == torch.bfloat16
    rows = signals.read_state_rows(result.files[signals.STATE_ROWS])
    logprobs = load_model(config.model).lm_head(final.float()).log_softmax(-1)
    for sample in signals.TeacherShard(
        answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS]
    ):
        for answer in sample.answers:
            row = rows[sample.sample_id, answer.level]
            got = logprobs[row, list(answer.letter_ids)].exp().detach().numpy()
            np.testing.assert_allclose(got, np.exp(answer.option_logprobs), atol=1e-2)


def test_parity_is_recorded(config: RunConfig, answered: ShardResult, shard: Shard) -> None:
    figures = run_states(config, answered, shard).figures
    assert figures["parity_max"] < 1e-3
    assert figures["parity_top1"] == 1.0


def _shift_positions(answered: ShardResult) -> None:
    """Every letter is looked for one token early."""
    path = answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS]
    moved = [
        dataclasses.replace(
            sample,
            answers=tuple(
                dataclasses.replace(answer, position=answer.position - 1)
                for answer in sample.answers
            ),
        )
        for sample in signals.TeacherShard(*path)
    ]
    signals.write_samples(moved, path[0].parent)


def test_a_shifted_position_fails_the_shard(
    config: RunConfig, answered: ShardResult, shard: Shard
) -> None:
    _shift_positions(answered)
    with pytest.raises(ShardError, match=r"disagrees with the engine.*worst is sample .*, level"):
        run_states(config, answered, shard)


def test_a_dropped_image_fails_the_shard(
    config: RunConfig, answered: ShardResult, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blank(*_: object) -> Image.Image:
        return Image.new("RGB", (56, 56))

    monkeypatch.setattr(states_module, "read_unchanged", blank)
    with pytest.raises(ShardError, match="disagrees with the engine"):
        run_states(config, answered, shard)


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


def test_a_changed_image_is_refused(
    config: RunConfig, answered: ShardResult, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sekd.data.samples.image_sha256", lambda _: "0" * 64)
    with pytest.raises(SampleError, match="not the image that the teacher saw"):
        run_states(config, answered, shard)


@pytest.mark.parametrize("layer", ["block_4", "norm", "block_-1"])
def test_an_unknown_layer_is_named(config: RunConfig, layer: str) -> None:
    with pytest.raises(ConfigError, match=rf"no '{layer}'.*block_0 to block_3"):
        StatesWorker(with_elicit(config, layers=(layer,)), {})
