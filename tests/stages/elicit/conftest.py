"""One shard of the training set and the answers of the tiny model to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from state_pass import NUM_SAMPLES, ignore

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.stages.elicit.answers import AnswersWorker


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
