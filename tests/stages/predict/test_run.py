"""Many images go through shards: none twice, none lost, whenever the run was killed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sekd.data.image_inputs import list_images, samples_of
from sekd.data.path_predictions import PathPrediction
from sekd.data.samples import Samples
from sekd.data.shards import Shard, ShardResult
from sekd.stages.predict import run
from sekd.stages.predict.predictor import Predictor
from sekd.stages.predict.request import PredictionRequest
from sekd.stages.predict.run import predict_images
from sekd.stages.predict.setup import PredictorSpec, set_up


@pytest.fixture(scope="module")
def spec(world: Path) -> PredictorSpec:
    settings = ("evaluate.runtime.shard_size=5", "evaluate.runtime.batch_size=4")
    return set_up(
        PredictionRequest(run=world / "config.yaml", is_stepwise=False, overrides=settings)
    )


@pytest.fixture
def samples(world: Path, spec: PredictorSpec, tmp_path: Path) -> Samples:
    """Twelve good images with a broken one among them."""
    broken = tmp_path / "broken.png"
    broken.write_text("no image", "utf-8")
    images = sorted(map(str, (world / "seen" / "images").rglob("*.png")))
    return samples_of(list_images([*images[:7], str(broken), *images[7:]]), spec.taxonomy)


def in_memory(spec: PredictorSpec, samples: Samples) -> list[PathPrediction]:
    with Predictor(spec) as predictor:
        return list(predictor.predict(samples))


def assert_same(some: list[PathPrediction], others: list[PathPrediction]) -> None:
    """The same paths; probabilities may differ by what a batch of another size rounds."""
    assert [each.image for each in some] == [each.image for each in others]
    for one, other in zip(some, others, strict=True):
        assert one.error == other.error
        assert [level.node for level in one.levels] == [level.node for level in other.levels]
        assert (one.probability or 0) == pytest.approx(other.probability or 0, rel=1e-3)


def test_shards_give_what_memory_gives_in_the_same_order(
    spec: PredictorSpec, samples: Samples, tmp_path: Path
) -> None:
    stored = list(predict_images(spec, samples, tmp_path / "run"))
    assert len(list((tmp_path / "run" / "predict").rglob("paths.parquet"))) == 3
    assert_same(stored, in_memory(spec, samples))
    assert [each.error for each in stored if each.error] == ["not an image"]


def test_a_handful_of_images_leaves_no_files(
    spec: PredictorSpec, samples: Samples, tmp_path: Path
) -> None:
    assert len(list(predict_images(spec, samples[:5], tmp_path / "run"))) == 5
    assert not (tmp_path / "run").exists()


def test_a_killed_run_asks_about_every_image_once(
    spec: PredictorSpec, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processed: Counter[str] = Counter()
    left = [1]

    class KilledWorker(run.PredictWorker):
        def process(self, shard: Shard, folder: Path, advance: object) -> ShardResult:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            result = super().process(shard, folder, lambda _: None)
            processed.update(shard.sample_ids)
            return result

    monkeypatch.setattr(run, "PredictWorker", KilledWorker)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            list(predict_images(spec, samples, tmp_path / "run"))
        left.append(1)
    predictions = list(predict_images(spec, samples, tmp_path / "run"))
    assert processed == Counter(samples.ids.to_pylist())
    assert [each.image for each in predictions] == samples.ids.to_pylist()


def test_more_images_add_shards_and_another_question_starts_anew(
    spec: PredictorSpec, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processed: list[str] = []

    class CountingWorker(run.PredictWorker):
        def process(self, shard: Shard, folder: Path, advance: object) -> ShardResult:
            processed.extend(shard.sample_ids)
            return super().process(shard, folder, lambda _: None)

    monkeypatch.setattr(run, "PredictWorker", CountingWorker)
    list(predict_images(spec, samples[:10], tmp_path / "run"))
    assert processed == samples.ids.to_pylist()[:10]
    processed.clear()
    predictions = list(predict_images(spec, samples, tmp_path / "run"))
    assert processed == samples.ids.to_pylist()[10:]
    assert len(predictions) == 13
    processed.clear()
    list(predict_images(replace(spec, num_paths=2), samples, tmp_path / "run"))
    assert len(processed) == 13
