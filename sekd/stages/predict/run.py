"""Predict many images: in memory where they are few, through the shard layer where they are many.

The shards hold what the model said; which rank is trusted is decided when they are read. So a run
that was stopped goes on, other images add shards, and another threshold asks the model nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sekd.data.path_predictions import (
    PATH_PREDICTION_SCHEMA,
    PathPrediction,
    paths_from_table,
    paths_to_table,
)
from sekd.data.samples import Dataset, Samples
from sekd.data.shards import Shard, ShardResult
from sekd.engines import engine_version
from sekd.errors import ShardError
from sekd.io.locations import Location
from sekd.models.adapters import adapter_identity
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.progress import show_progress
from sekd.pipeline.runner import IncompleteError, run_settings, run_stage
from sekd.pipeline.stage import Stage
from sekd.stages.descent import DESCENT_VERSION
from sekd.stages.fingerprints import (
    dataset_fields,
    hash_images,
    model_fields,
    settings_without_quiz,
)
from sekd.stages.naming import NAMING_VERSION
from sekd.stages.predict.predictor import Predictor
from sekd.stages.predict.setup import PredictorSpec

PATHS = "paths"
"""Role of the file in a shard."""
PREDICT_VERSION = 1
"""Part of the fingerprint: raise it when the same input would give other predictions."""


def predict_images(
    spec: PredictorSpec,
    samples: Samples,
    directory: Location | None = None,
    *,
    retry_failed: bool = False,
    is_kept: bool = False,
) -> Iterable[PathPrediction]:
    """Predict the path of each image; of one that cannot be used, give the reason.

    Args:
        directory: where shards are kept, if there are more images than one shard has; without it,
            everything stays in memory, and a run that is stopped starts anew.
        retry_failed: grant new attempts to shards that have used up theirs.
        is_kept: the predictions can be gone through several times. Otherwise those in memory are
            made as they are gone through, once.

    Returns:
        Predictions in the order of the samples.

    Raises:
        IncompleteError: if shards are left; the same call repeats them.
    """
    if directory is None or len(samples) <= spec.evaluate.runtime.shard_size:
        made = _predict_in_memory(spec, samples)
        return list(made) if is_kept else made
    dataset = Dataset("images", spec.dataset, spec.taxonomy, samples)
    runtime = spec.evaluate.runtime
    outcome = run_stage(
        Stage.open(
            directory / "predict",
            prediction_fields(spec, dataset),
            SampleInputs.of(dataset, hash_images(dataset), runtime.shard_size),
        ),
        partial(PredictWorker, spec, samples),
        **run_settings(runtime, retry_failed=retry_failed),
    )
    if outcome.manifest is None:
        raise IncompleteError([outcome])
    files = outcome.manifest.files(PATHS)
    return _StoredPredictions([files[shard.index] for shard in outcome.stage.plan])


@dataclass(frozen=True)
class _StoredPredictions(Iterable[PathPrediction]):
    """The predictions in the files of finished shards, to go through any number of times."""

    files: Sequence[Location]

    def __iter__(self) -> Iterator[PathPrediction]:
        for path in self.files:
            yield from paths_from_table(pq.read_table(path))


def _predict_in_memory(spec: PredictorSpec, samples: Samples) -> Iterator[PathPrediction]:
    with Predictor(spec) as predictor, show_progress("predict", len(samples)) as progress:
        for prediction in predictor.predict(samples):
            progress.advance(1)
            yield prediction


def prediction_fields(spec: PredictorSpec, dataset: Dataset) -> dict[str, Any]:
    """Gather everything that predictions depend on beside the images; its hash is the
    fingerprint."""
    rules = spec.rules
    settings: dict[str, Any] = {
        "model": spec.model.model_dump(mode="json"),
        "data": settings_without_quiz(spec.dataset),
        "engine_args": spec.evaluate.engine_args,
        "num_paths": [spec.num_paths, spec.descent.beam],
        "last_rank": rules.last_rank,
        "restriction": None if rules.restriction is None else rules.restriction.digest(),
        "temperatures": {str(level): value for level, value in rules.temperatures.items()},
    }
    if spec.is_stepwise:
        walk_settings = {"style", "answer", "permutations"}
        settings["descent"] = spec.descent.model_dump(mode="json")
        settings["descending"] = DESCENT_VERSION
        settings["elicit"] = spec.teacher.model_dump(mode="json", include=walk_settings)
    else:
        settings["naming"] = NAMING_VERSION
    return {
        "stage": "predict",
        "version": PREDICT_VERSION,
        "spec": settings,
        "engine": engine_version(spec.evaluate.engine),
        "adapter": adapter_identity(spec.adapter, "--adapter") if spec.adapter else None,
        **model_fields(spec.model),
        **dataset_fields(dataset),
    }


class PredictWorker:
    """Turns shards of images into predictions; see :class:`sekd.pipeline.work.Worker`.

    An image that cannot be used is a prediction with its reason, so it never stops a run.
    """

    def __init__(self, spec: PredictorSpec, samples: Samples) -> None:
        self._samples = samples
        self._predictor = Predictor(spec)

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Predict all images of a shard, and write the predictions in their order."""
        predictions = []
        for prediction in self._predictor.predict(self._samples.named(shard.sample_ids)):
            predictions.append(prediction)
            advance(1)
        path = folder / "paths.parquet"
        pq.write_table(paths_to_table(predictions), path, compression="zstd")
        written = pq.read_table(path, schema=PATH_PREDICTION_SCHEMA)["image"].to_pylist()
        if written != list(shard.sample_ids):
            raise ShardError(f"{path}: does not read back as it was written")
        num_broken = sum(prediction.error is not None for prediction in predictions)
        return ShardResult(
            files={PATHS: path}, num_done=len(predictions), stats={"num_broken": num_broken}
        )

    def close(self) -> None:
        """Free the model."""
        self._predictor.close()
