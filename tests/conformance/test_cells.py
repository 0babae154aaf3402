"""One cell's worker over every engine: the same rows, and figures that are a run's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

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
]


class Exam:
    """Cells of the small world on one engine that is kept open."""

    def __init__(self, world: Path, engine: str, folder: Path) -> None:
        config = load_config(
            world / "config.yaml",
            [
                f"evaluate.engine={engine}",
                *(["evaluate.engine_args={max_model_len: 1024}"] if engine == "vllm" else []),
            ],
        )
        self.config: RunConfig = config
        self.dataset = Dataset.load("seen", config.data["seen"])
        self.base = Candidate("base", ModelSpec(path=config.model.path, dtype="float32"))
        self.kept = EngineCache()
        self._folder = folder
        self._num_runs = 0

    def run(self, paradigm: Paradigm, control: Control | None) -> ShardResult:
        cell = EvaluationCell(self.base, self.dataset, paradigm, control)
        worker = CellWorker(self.config, cell, self.kept)
        folder = self._folder / str(self._num_runs)
        folder.mkdir()
        self._num_runs += 1
        shard = Shard(0, tuple(self.dataset.samples.ids.to_pylist()))
        result = worker.process(shard, folder, lambda _: None)
        worker.close()
        return result


@pytest.fixture(scope="module")
def reference(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exam]:
    exam = Exam(world, "transformers", tmp_path_factory.mktemp("reference"))
    yield exam
    exam.kept.close()


@pytest.fixture(scope="module", params=ENGINES)
def exam(
    request: pytest.FixtureRequest, world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exam]:
    exam = Exam(world, request.param, tmp_path_factory.mktemp("exam"))
    exam.run("joint", None)  # until it knows how long they are, vLLM takes one after another
    yield exam
    exam.kept.close()


@pytest.mark.parametrize(("paradigm", "control"), CELLS)
def test_cells_are_alike_and_begin_with_nothing_cached(
    exam: Exam, reference: Exam, paradigm: Paradigm, control: Control | None
) -> None:
    first, again, expected = (each.run(paradigm, control) for each in (exam, exam, reference))
    rows, wanted = (
        read_predictions([each.files[PREDICTIONS]]).sort_by(
            [("sample_id", "ascending"), ("rotation", "ascending"), ("level", "ascending")]
        )
        for each in (first, expected)
    )
    columns = [name for name in rows.column_names if name != "option_logprobs"]
    assert rows.select(columns) == wanted.select(columns)
    for got, want in zip(rows["option_logprobs"], wanted["option_logprobs"], strict=True):
        assert got.is_valid == want.is_valid
        if got.is_valid:
            np.testing.assert_allclose(got.as_py(), want.as_py(), atol=1e-3)
    counts = [
        {name: value for name, value in each.figures.items() if name != "seconds"}
        for each in (first, again)
    ]
    assert counts[0] == counts[1]
    prompts = [
        each.figures["prefill_tokens"] + each.figures["cached_tokens"] for each in (first, expected)
    ]
    assert prompts[0] == prompts[1]
    for name in ("calls", "decode_tokens"):
        assert first.figures[name] == expected.figures[name]
