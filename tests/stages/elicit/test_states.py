"""The state pass takes the right states at the right positions."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from state_pass import NUM_SAMPLES, answers_with, ignore, rewrite, run_states, shifted, with_elicit

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.errors import ConfigError, ShardError
from sekd.models.loading import load_model
from sekd.models.states import StateFile
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker


def test_states_are_those_of_a_plain_forward(
    config: RunConfig, answered: ShardResult, shard: Shard
) -> None:
    """Compared with output_hidden_states of one unpadded forward per image, at every position."""
    config = with_elicit(config, layers=("block_0", "middle", "final_norm"), state_dtype="float32")
    result = run_states(config, answered, shard)
    tensors = load_file(result.files[signals.STATES])
    rows = signals.read_state_rows(result.files[signals.STATE_ROWS])
    assert set(tensors) == {"block_0", "block_2", "final_norm"}
    model = load_model(config.model)
    worker = StatesWorker(config, {})  # for its batcher, which the engines' conformance suite tests
    samples = signals.TeacherShard(
        answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS]
    )
    for sample in samples:
        image = Image.open(sample.image).convert("RGB")
        (transcript,) = sample.transcripts
        batch = worker._extractor._batcher([transcript.token_ids], [image], [sample.image_sha256])
        with torch.inference_mode():
            output = model(**batch.inputs, output_hidden_states=True)
        letters = batch.inputs["input_ids"][0].tolist()
        for answer in sample.answers:
            position = answer.position + batch.shifts[0]
            assert letters[position] == answer.letter_ids[answer.choice]
            row = rows[sample.sample_id, answer.level].row
            for name, layer in (("block_0", 1), ("block_2", 3), ("final_norm", 4)):
                expected = output.hidden_states[layer][0, position - 1]
                torch.testing.assert_close(tensors[name][row], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("state_dtype", "stored", "tolerance"),
    [
        ("float32", torch.float32, 1e-6),
        ("bfloat16", torch.bfloat16, 1e-2),
        ("float8", torch.float8_e4m3fn, 0.15),
    ],
)
def test_the_final_state_gives_the_distribution_back(
    config: RunConfig,
    answered: ShardResult,
    shard: Shard,
    state_dtype: str,
    stored: torch.dtype,
    tolerance: float,
) -> None:
    """Every probability of the whole vocabulary can be computed from what is on disk."""
    exact = run_states(with_elicit(config, state_dtype="float32"), answered, shard)
    lm_head = load_model(config.model).lm_head
    states = load_file(exact.files[signals.STATES])["final_norm"]
    expected = lm_head(states).softmax(-1)
    result = run_states(with_elicit(config, state_dtype=state_dtype), answered, shard)
    path = result.files[signals.STATES]
    assert load_file(path)["final_norm"].dtype == stored
    got = lm_head(StateFile(path).states("final_norm").float()).softmax(-1)
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
    rows = signals.read_state_rows(result.files[signals.STATE_ROWS])
    for row in rows.values():
        top = expected[row.row, row.top_ids.tolist()].detach().numpy()
        np.testing.assert_allclose(np.exp(row.top_logprobs), top, atol=1e-5)
        assert len(row.top_ids) == config.elicit.top_k
        assert row.top_logprobs[0] == row.top_logprobs.max()


@pytest.mark.parametrize("style", ["dialogue", "facts"])
@pytest.mark.parametrize("permutations", [1, 4])
def test_every_style_and_number_of_orders_passes_the_gate(
    config: RunConfig, shard: Shard, tmp_path: Path, style: str, permutations: int
) -> None:
    config = with_elicit(config, style=style, permutations=permutations, answer="letter")
    (tmp_path / "answers").mkdir()
    worker = AnswersWorker(config, Dataset.load("train", config.data["train"]))
    answered = worker.process(shard, tmp_path / "answers", ignore)
    result = run_states(config, answered, shard)
    assert result.stats["parity_max"] < 1e-3
    for sample in signals.TeacherShard(
        answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS]
    ):
        assert len(sample.transcripts) == (4 if style == "facts" else 1)
        for answer in sample.answers:
            is_same = np.array_equal(answer.option_logprobs, answer.mean_logprobs)
            assert is_same == (permutations == 1)


def test_batches_of_any_size_give_the_same_states(
    config: RunConfig, answered: ShardResult, shard: Shard
) -> None:
    """Rows are batched by length, and stored in the order of samples and levels."""
    tensors, rows = [], []
    for size in (1, 3, 7):
        runtime = config.elicit.runtime.model_copy(update={"batch_size": size})
        sized = with_elicit(config, runtime=runtime, state_dtype="float32")
        result = run_states(sized, answered, shard)
        tensors.append(load_file(result.files[signals.STATES]))
        read = signals.read_state_rows(result.files[signals.STATE_ROWS])
        rows.append({key: row.row for key, row in read.items()})
    assert rows[0] == rows[1] == rows[2]
    assert list(rows[0].values()) == list(range(len(rows[0])))
    for other in tensors[1:]:
        for name, states in tensors[0].items():
            torch.testing.assert_close(other[name], states, atol=1e-4, rtol=1e-4)


def out_of_memory(monkeypatch: pytest.MonkeyPatch, worker: StatesWorker, limit: int) -> list[int]:
    """Let the model take at most ``limit`` rows; return the sizes of the batches that it took."""
    forward, taken = worker._extractor._model.forward, []

    def limited(input_ids: torch.Tensor, **inputs: object) -> object:
        if len(input_ids) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        taken.append(len(input_ids))
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(worker._extractor._model, "forward", limited)
    return taken


def test_a_batch_that_is_too_large_is_halved(
    config: RunConfig,
    answered: ShardResult,
    shard: Shard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = load_file(run_states(config, answered, shard).files[signals.STATES])
    files = (answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS])
    worker = StatesWorker(config, {0: files})
    taken = out_of_memory(monkeypatch, worker, limit=2)
    (tmp_path / "halved").mkdir()
    advanced = []
    result = worker.process(shard, tmp_path / "halved", advanced.append)
    assert taken == [2, 2, 2, 1]
    assert sum(advanced) == NUM_SAMPLES
    for name, states in load_file(result.files[signals.STATES]).items():
        torch.testing.assert_close(states, expected[name], atol=1e-2, rtol=1e-2)


def test_a_sample_that_is_too_large_alone_is_quarantined(
    config: RunConfig,
    answered: ShardResult,
    shard: Shard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = (answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS])
    worker = StatesWorker(with_elicit(config, max_quarantined=0.2), {0: files})
    forward = worker._extractor._model.forward
    large = signals.TeacherShard(*files)[2]
    end = torch.tensor(large.transcripts[0].token_ids[-60:])

    def limited(input_ids: torch.Tensor, **inputs: object) -> object:
        if (input_ids[:, -60:] == end).all(1).any():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(worker._extractor._model, "forward", limited)
    (tmp_path / "some").mkdir()
    result = worker.process(shard, tmp_path / "some", ignore)
    (quarantined,) = result.quarantined
    assert quarantined.sample_id == large.sample_id
    assert "do not fit into memory even alone" in quarantined.reason
    assert result.num_done == NUM_SAMPLES - 1
    rows = signals.read_state_rows(result.files[signals.STATE_ROWS])
    assert {sample_id for sample_id, _ in rows} == set(shard.sample_ids) - {large.sample_id}


def test_an_adapter_changes_both_answers_and_states(
    config: RunConfig, answered: ShardResult, shard: Shard, adapter: Path, tmp_path: Path
) -> None:
    """The gate passes where both stages use the adapter, and fails where only one of them does."""
    adapted = with_elicit(config, adapter=adapter)
    with_adapter = answers_with(adapted, shard, tmp_path / "adapted")
    result = run_states(adapted, with_adapter, shard)
    assert result.stats["parity_max"] < 1e-3
    states = load_file(result.files[signals.STATES])
    of_base = load_file(run_states(config, answered, shard).files[signals.STATES])
    for layer, state in states.items():
        assert (state.float() - of_base[layer].float()).abs().max() > 0.1, layer
    for one, other in ((config, with_adapter), (adapted, answered)):
        with pytest.raises(ShardError, match="disagrees with the engine"):
            run_states(one, other, shard)


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm not installed")
def test_vllm_gives_the_states_with_an_adapter(
    config: RunConfig, shard: Shard, adapter: Path, tmp_path: Path
) -> None:
    adapted = with_elicit(config, adapter=adapter, layers=("final_norm",), state_dtype="float32")
    with_adapter = answers_with(adapted, shard, tmp_path / "adapted")
    expected = run_states(adapted, with_adapter, shard)
    states = load_file(expected.files[signals.STATES])["final_norm"]
    result = run_states(with_elicit(adapted, states_engine="vllm"), with_adapter, shard)
    assert result.stats["parity_max"] < 1e-3
    got = load_file(result.files[signals.STATES])["final_norm"]
    torch.testing.assert_close(got, states, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("layer", ["block_4", "norm", "block_-1"])
def test_an_unknown_layer_is_named(config: RunConfig, layer: str) -> None:
    with pytest.raises(ConfigError, match=rf"no '{layer}'.*block_0 to block_3"):
        StatesWorker(with_elicit(config, layers=(layer,)), {})


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm not installed")
def test_vllm_gives_the_same_final_states(
    config: RunConfig, answered: ShardResult, shard: Shard
) -> None:
    only_final = with_elicit(config, layers=("final_norm",), state_dtype="float32")
    expected = run_states(only_final, answered, shard)
    states = load_file(expected.files[signals.STATES])["final_norm"]
    rows = signals.read_state_rows(expected.files[signals.STATE_ROWS])
    result = run_states(with_elicit(only_final, states_engine="vllm"), answered, shard)
    assert result.stats["parity_max"] < 1e-3
    got = load_file(result.files[signals.STATES])
    assert set(got) == {"final_norm"}
    torch.testing.assert_close(got["final_norm"], states, atol=1e-3, rtol=1e-3)
    for key, row in signals.read_state_rows(result.files[signals.STATE_ROWS]).items():
        np.testing.assert_allclose(row.top_logprobs, rows[key].top_logprobs, atol=1e-3)
    rewrite(answered, shifted)
    with pytest.raises(ShardError, match="disagrees with the engine"):
        run_states(with_elicit(only_final, states_engine="vllm"), answered, shard)


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm not installed")
def test_vllm_gives_no_other_layer(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"gives final_norm alone, not middle, final_norm; set"):
        StatesWorker(with_elicit(config, states_engine="vllm"), {})
