"""The worker of one cell with every engine: the same rows, and costs that count from nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from vllm_args import vllm_args

from sekd.config import Control, ModelSpec, Paradigm, RunConfig, load_config
from sekd.data.predictions import PREDICTIONS, read_predictions
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.stages.evaluate.candidates import Candidate, EngineCache
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell

HAS_VLLM = importlib.util.find_spec("vllm") is not None
ENGINES = [
    "transformers",
    pytest.param(
        "vllm",
        marks=[pytest.mark.vllm, pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")],
    ),
]
CELLS: list[tuple[Paradigm, Control | None]] = [
    ("joint", None),
    ("joint", "blind"),
    ("independent", None),
    ("conditioned", None),
    ("conditioned", "blind"),
    ("conditioned", "circular"),
    ("descent", None),
    ("descent", "blind"),
]


class CellRunner:
    """Runs cells of the small world on one engine that stays open."""

    def __init__(self, world: Path, engine: str, folder: Path) -> None:
        # Three children are two groups and a final, and two paths are followed at once.
        overrides = [f"evaluate.engine={engine}", "descent.max_options=2", "descent.beam=2"]
        overrides.append(f"evaluate.engine_args={vllm_args(engine, is_compiled=True)}")
        config = load_config(world / "config.yaml", overrides)
        self.config: RunConfig = config
        self.dataset = Dataset.load("seen", config.data["seen"])
        self.base = Candidate("base", ModelSpec(path=config.model.path, dtype="float32"))
        self.engines = EngineCache()
        self._folder = folder
        self._num_runs = 0

    def run(self, paradigm: Paradigm, control: Control | None) -> ShardResult:
        cell = EvaluationCell(self.base, self.dataset, paradigm, control)
        worker = CellWorker(self.config, cell, self.engines)
        folder = self._folder / str(self._num_runs)
        folder.mkdir()
        self._num_runs += 1
        shard = Shard(0, tuple(self.dataset.samples.ids.to_pylist()))
        result = worker.process(shard, folder, lambda _: None)
        worker.close()
        return result


@pytest.fixture(scope="module")
def reference(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CellRunner]:
    runner = CellRunner(world, "transformers", tmp_path_factory.mktemp("reference"))
    yield runner
    runner.engines.close()


@pytest.fixture(scope="module", params=ENGINES)
def runner(
    request: pytest.FixtureRequest, world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CellRunner]:
    runner = CellRunner(world, request.param, tmp_path_factory.mktemp("runner"))
    # vLLM takes one conversation at a time until it has seen how long they are.
    runner.run("joint", None)
    yield runner
    runner.engines.close()


def sorted_rows(result: ShardResult) -> pa.Table:
    return read_predictions([result.files[PREDICTIONS]]).sort_by(
        [("sample_id", "ascending"), ("rotation", "ascending"), ("level", "ascending")]
    )


def assert_same_paths(rows: pa.Table, expected: pa.Table) -> None:
    """Compare the probabilities of paths, which only a descent has."""
    for got, want in zip(rows["path_logprob"], expected["path_logprob"], strict=True):
        assert got.is_valid == want.is_valid
        assert not got.is_valid or got.as_py() == pytest.approx(want.as_py(), abs=1e-3)
    for got, want in zip(rows["paths"].to_pylist(), expected["paths"].to_pylist(), strict=True):
        assert [each["node"] for each in got or ()] == [each["node"] for each in want or ()]
        for path, other in zip(got or (), want or (), strict=True):
            assert path["probability"] == pytest.approx(other["probability"], abs=1e-3)


def counts_of(result: ShardResult) -> dict[str, int]:
    times = ("seconds", "latency")
    return {name: value for name, value in result.stats.items() if name not in times}


def num_prompt_tokens(result: ShardResult) -> int:
    return result.stats["prefill_tokens"] + result.stats["cached_tokens"]


@pytest.mark.parametrize(("paradigm", "control"), CELLS)
def test_engines_give_the_same_rows_and_begin_with_nothing_cached(
    runner: CellRunner, reference: CellRunner, paradigm: Paradigm, control: Control | None
) -> None:
    first, again = runner.run(paradigm, control), runner.run(paradigm, control)
    expected = reference.run(paradigm, control)
    rows, expected_rows = sorted_rows(first), sorted_rows(expected)
    measured = {"option_logprobs", "path_logprob", "paths"}
    columns = [name for name in rows.column_names if name not in measured]
    assert rows.select(columns) == expected_rows.select(columns)
    assert_same_paths(rows, expected_rows)
    for got, want in zip(rows["option_logprobs"], expected_rows["option_logprobs"], strict=True):
        assert got.is_valid == want.is_valid
        if got.is_valid:
            np.testing.assert_allclose(got.as_py(), want.as_py(), atol=1e-3)
    assert counts_of(first) == counts_of(again)
    assert num_prompt_tokens(first) == num_prompt_tokens(expected)
    for name in ("calls", "decode_tokens"):
        assert first.stats[name] == expected.stats[name]
