"""Runs the two parts of an elicitation, and changes the answers between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker

NUM_SAMPLES = 7  # two batches of the config's five


def ignore(_: int) -> None:
    pass


def answers_with(config: RunConfig, shard: Shard, folder: Path) -> ShardResult:
    folder.mkdir()
    worker = AnswersWorker(config, Dataset.load("train", config.data["train"]))
    try:
        return worker.process(shard, folder, ignore)
    finally:
        worker.close()


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


Change = Callable[[signals.TeacherSample], signals.TeacherSample]


def rewrite(answered: ShardResult, change: Change, *, only_first: bool = False) -> None:
    """Change all stored samples, or only the first one."""
    files = answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS]
    samples = list(signals.TeacherShard(*files))
    num_changed = 1 if only_first else len(samples)
    changed = [change(sample) for sample in samples[:num_changed]]
    signals.write_samples([*changed, *samples[num_changed:]], files[0].parent)


def shifted(sample: signals.TeacherSample) -> signals.TeacherSample:
    """Look for every letter one token early."""
    answers = tuple(
        dataclasses.replace(answer, position=answer.position - 1) for answer in sample.answers
    )
    return dataclasses.replace(sample, answers=answers)
