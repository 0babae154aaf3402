"""An image that a model's processor does not take sets aside its own sample, in every stage.

Idefics2's processor fails on images of 1x300 and 300x1 pixels, each with another kind of error.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from gallery_models import gallery_spec
from PIL import Image

from sekd.config import RunConfig, load_config
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.data.toyworld import write_world
from sekd.engines import Answer, Conversation, Reply
from sekd.engines.driver import run_one_by_one
from sekd.errors import ConfigError, ShardError
from sekd.models import loading
from sekd.models.batching import Batcher, forward_arguments
from sekd.models.chat import load_chat
from sekd.stages.distill.collate import DistillCollator
from sekd.stages.distill.dataset import DistillDataset, ShardFiles
from sekd.stages.distill.trainer import MicroBatchBuilder
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.estimate import plan_elicitation
from sekd.stages.elicit.states import StatesWorker
from sekd.stages.evaluate.candidates import candidates_of
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell

NUM_SAMPLES, NUM_REFUSED = 8, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn world with two images of the training set replaced by ones that are refused."""
    folder = tmp_path_factory.mktemp("drawn") / "world"
    write_world(folder, num_train=NUM_SAMPLES, num_test=4, seed=0)
    images = [sample.image.path for sample in train_set(folder).samples]
    Image.new("RGB", (1, 300), "red").save(images[1])
    Image.new("RGB", (300, 1), "red").save(images[4])
    return folder


def load(folder: Path, *overrides: str) -> RunConfig:
    content = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    content["model"] = {"path": gallery_spec("idefics2").path, "dtype": "float32"}
    content["elicit"] |= {"max_quarantined": 0.5, "top_k": 20}
    content["elicit"]["runtime"] = {"batch_size": 3, "shard_size": NUM_SAMPLES}
    path = folder / "refusing.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_config(path, overrides)


def train_set(folder: Path) -> Dataset:
    return Dataset.load("train", load_config(folder / "config.yaml").data["train"])


@pytest.fixture
def config(folder: Path) -> RunConfig:
    return load(folder)


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    return train_set(folder)


@pytest.fixture
def shard(dataset: Dataset) -> Shard:
    return Shard(0, tuple(sample.id for sample in dataset.samples))


def ids_of_refused(dataset: Dataset) -> set[str]:
    return {dataset.samples[1].id, dataset.samples[4].id}


def check_quarantined(quarantined: Iterable[Quarantined], dataset: Dataset) -> None:
    reasons = {each.sample_id: each.reason for each in quarantined}
    assert reasons.keys() == ids_of_refused(dataset)
    texts = sorted(reasons.values())
    assert "does not take an image of 1x300 pixels: RuntimeError: shape" in texts[0]
    assert "does not take an image of 300x1 pixels: ZeroDivisionError" in texts[1]


class BlindEngine:
    """Answers at random without looking at an image, so that it takes all of them."""

    name, version = "blind", "0"

    def run(self, conversations: Iterable[Conversation[Any]]) -> Iterator[Any]:
        rng = random.Random(0)

        def respond(requests: Any) -> list[Any]:
            logprobs = -np.array([rng.random() for _ in range(26)], dtype=np.float32)
            return [
                Reply((), 0, 0)
                if not hasattr(request, "option_ids")
                else Answer(0, logprobs[: len(request.option_ids)], 9, 0)
                for request in requests
            ]

        return run_one_by_one(conversations, respond)

    def close(self) -> None:
        pass


def answer(
    config: RunConfig, dataset: Dataset, shard: Shard, folder: Path, engine: Any = None
) -> ShardResult:
    folder.mkdir()
    return AnswersWorker(config, dataset, engine).process(shard, folder, lambda _: None)


def find_states(config: RunConfig, answered: ShardResult, shard: Shard) -> ShardResult:
    files = (answered.files[signals.TRANSCRIPTS], answered.files[signals.ANSWERS])
    return StatesWorker(config, {0: files}).process(shard, files[0].parent, lambda _: None)


def test_the_teacher_answers_about_the_others(
    config: RunConfig, dataset: Dataset, shard: Shard, tmp_path: Path
) -> None:
    result = answer(config, dataset, shard, tmp_path / "answers")
    check_quarantined(result.quarantined, dataset)
    assert result.num_done == NUM_SAMPLES - NUM_REFUSED


def test_the_state_pass_finds_them_where_the_engine_took_them(
    config: RunConfig, dataset: Dataset, shard: Shard, tmp_path: Path
) -> None:
    loose = config.model_copy(
        update={"elicit": config.elicit.model_copy(update={"parity_limit": 100.0})}
    )
    answered = answer(loose, dataset, shard, tmp_path / "answers", BlindEngine())
    assert answered.num_done == NUM_SAMPLES
    result = find_states(loose, answered, shard)
    check_quarantined(result.quarantined, dataset)
    assert result.num_done == NUM_SAMPLES - NUM_REFUSED
    strict = loose.model_copy(
        update={"elicit": loose.elicit.model_copy(update={"max_quarantined": 0.1})}
    )
    with pytest.raises(ShardError, match=r"2 of 8 samples .*max_quarantined 0\.1"):
        find_states(strict, answered, shard)


def test_a_missing_image_is_set_aside_by_the_state_pass(
    config: RunConfig, dataset: Dataset, shard: Shard, tmp_path: Path
) -> None:
    answered = answer(config, dataset, shard, tmp_path / "answers")
    image = dataset.samples[0].image.path
    content = image.read_bytes()
    image.unlink()
    try:
        result = find_states(config, answered, shard)
    finally:
        image.write_bytes(content)
    assert [each.sample_id for each in result.quarantined] == [dataset.samples[0].id]


def test_the_plan_counts_them(config: RunConfig) -> None:
    assert plan_elicitation(config, tflops=1.0).cost.num_unusable == NUM_REFUSED


def test_a_cell_of_the_evaluation_goes_on(
    config: RunConfig, dataset: Dataset, shard: Shard, tmp_path: Path
) -> None:
    base = candidates_of(config, None)[0]
    for paradigm in ("independent", "joint"):
        folder = tmp_path / paradigm
        folder.mkdir()
        worker = CellWorker(config, EvaluationCell(base, dataset, paradigm))
        result = worker.process(shard, folder, lambda _: None)
        check_quarantined(result.quarantined, dataset)


def test_a_micro_batch_takes_other_samples_instead(
    config: RunConfig, dataset: Dataset, shard: Shard, tmp_path: Path
) -> None:
    config = config.model_copy(
        update={"elicit": config.elicit.model_copy(update={"parity_limit": 100.0})}
    )
    answered = answer(config, dataset, shard, tmp_path / "answers")
    states = find_states(config, answered, shard)
    chat = load_chat(config.model, subject="organism")
    files = ShardFiles(
        *(answered.files[name] for name in (signals.TRANSCRIPTS, signals.ANSWERS)),
        *(states.files[name] for name in (signals.STATES, signals.STATE_ROWS)),
    )
    examples = DistillDataset([files], dataset.taxonomy, chat, config.distill)
    batcher = Batcher(chat, forward_arguments(loading.load_model(config.model)))
    refusing = RefusingProcessor(chat.processor, examples[1].sample.image)
    chat.processor = refusing
    build = MicroBatchBuilder(examples, DistillCollator(batcher))
    built = build([0, 1])["built"]
    assert built.batch.sample_ids == (examples[0].sample.sample_id, examples[2].sample.sample_id)
    assert built.set_aside.keys() == {examples[1].sample.sample_id}
    refusing.refuses_all = True
    with pytest.raises(ConfigError, match="does not take a plain image"):
        raise MicroBatchBuilder(examples, DistillCollator(Batcher(chat)))([0, 1])["built"].batch


class RefusingProcessor:
    """Fails on the image of one file, or on all."""

    def __init__(self, processor: Any, image: str) -> None:
        self._processor = processor
        self._refused = Image.open(image).convert("RGB").tobytes()
        self.refuses_all = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, *, images: list[list[Image.Image]], **others: Any) -> Any:
        if self.refuses_all or any(image.tobytes() == self._refused for (image,) in images):
            raise IndexError("list index out of range")
        return self._processor(images=images, **others)
