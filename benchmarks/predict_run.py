"""Measure `sekd predict` from files: both ways, one image alone, and what shards and imports cost.

    python benchmarks/predict_run.py [--check] [--images 10000] [--engine transformers]

The tiny model of this package predicts drawn images, by a single pass and by descent. Then the same
images are predicted in memory and in shards, in turns. The model does the same work for both, and
its processor seconds differ by more from turn to turn than shards cost. So shards are charged with
the processor seconds beside the model that the run in memory does not take, as a share of all its
seconds; and with batches of the model, if there are more of them. Other work on the machine makes
them dearer. Importing `sekd` is measured against an interpreter that imports nothing. The last
lines have the figures beside their limits; with --check the exit code is 1 if one falls short.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from figures import Figure, finish

from sekd.data.image_hashes import ImageHashes
from sekd.data.image_inputs import list_images, samples_of
from sekd.data.path_predictions import PathPrediction
from sekd.data.samples import Sample, Samples
from sekd.data.toyworld import write_world
from sekd.engines.transformers import TransformersEngine
from sekd.stages.predict.predictor import Predictor
from sekd.stages.predict.request import PredictionRequest
from sekd.stages.predict.run import predict_images
from sekd.stages.predict.setup import PredictorSpec, set_up

NUM_ALONE = 9
SHARD_SIZE = 1000
NUM_TURNS = 5
NUM_TIMED = 1000
"""Images whose rate is measured; the shards are charged with all of them."""
WAYS = {"single pass": False, "stepwise": True}


def spec_of(world: Path, engine: str, *, is_stepwise: bool) -> PredictorSpec:
    overrides = [f"evaluate.engine={engine}", f"evaluate.runtime.shard_size={SHARD_SIZE}"]
    if engine == "vllm":
        overrides.append("evaluate.engine_args={max_model_len: 1024}")
    return set_up(
        PredictionRequest(run=world / "config.yaml", is_stepwise=is_stepwise, overrides=overrides)
    )


def measure_way(spec: PredictorSpec, samples: Samples, title: str) -> None:
    """Print images in a second, and the seconds of one image alone."""
    with Predictor(spec) as predictor:
        list(predictor.predict(samples[:8]))  # so that caches are made
        started = time.monotonic()
        assert sum(each.error is None for each in predictor.predict(samples)) == len(samples)
        rate = len(samples) / (time.monotonic() - started)
        alone = []
        for number in range(NUM_ALONE):
            started = time.monotonic()
            list(predictor.predict(samples[number : number + 1]))
            alone.append(time.monotonic() - started)
    print(f"{title:14}{rate:10.1f} images/s{median(alone):10.4f} s alone", flush=True)


@dataclass
class Metered:
    """Processor seconds of a run, and those of them in which its predictor is at work.

    A pause of Python's collector, 0.3 s for all objects, falls on whatever made an object last. So
    pauses are counted by themselves, wherever they fall.

    Attributes:
        model: to load the model, to predict, and to free it, without pauses of the collector.
        collector: pauses of the collector.
        num_batches: that the model answered.
    """

    total: float = 0.0
    model: float = 0.0
    collector: float = 0.0
    num_batches: int = 0

    def __post_init__(self) -> None:
        self._pause_started = 0.0
        self._is_at_work = False

    @property
    def beside_model(self) -> float:
        """Seconds outside the model, and all pauses of the collector."""
        return self.total - self.model

    @contextmanager
    def at_work(self) -> Iterator[None]:
        started, self._is_at_work = time.process_time(), True
        yield
        self.model += time.process_time() - started
        self._is_at_work = False

    def watch_collector(self, phase: str, _: object) -> None:
        if phase == "start":
            self._pause_started = time.process_time()
            return
        pause = time.process_time() - self._pause_started
        self.collector += pause
        self.model -= pause if self._is_at_work else 0.0

    def run(self, predict: Callable[[], Iterable[object]]) -> Metered:
        """Go through all predictions, with a predictor and an engine that are watched."""
        meter = self

        class WatchedPredictor(Predictor):
            def __init__(self, *args: Any) -> None:
                with meter.at_work():
                    super().__init__(*args)

            def predict(self, samples: Iterable[Sample]) -> Iterator[PathPrediction]:
                listed = list(samples)  # outside the model, for both ways
                predictions, end = super().predict(listed), object()
                while True:
                    with meter.at_work():
                        prediction: Any = next(predictions, end)
                    if prediction is end:
                        return
                    yield prediction

            def close(self) -> None:
                with meter.at_work():
                    super().close()

        def answer(engine: TransformersEngine, *args: Any) -> Any:
            meter.num_batches += 1
            return _answer(engine, *args)

        gc.callbacks.append(self.watch_collector)
        started = time.process_time()
        with (
            patch("sekd.stages.predict.run.Predictor", WatchedPredictor),
            patch.object(TransformersEngine, "_answer", answer),
        ):
            deque(predict(), maxlen=0)
        self.total = time.process_time() - started
        gc.callbacks.remove(self.watch_collector)
        return self


_answer = TransformersEngine._answer  # its batches are counted


def shard_overhead(spec: PredictorSpec, samples: Samples, folder: Path) -> list[Figure]:
    """Compare shards with memory, in turns; image hashes are cached."""
    list(predict_images(spec, samples[:300], folder / "warm"))
    ImageHashes(samples).compute(lambda _: None)
    shares, more_batches = [], []
    for turn in range(NUM_TURNS):
        places = (None, folder / f"shards{turn}")
        order = places if turn % 2 == 0 else reversed(places)
        runs = {
            place: Metered().run(partial(predict_images, spec, samples, place)) for place in order
        }
        memory, shards = (runs[place] for place in places)
        shares.append((shards.beside_model - memory.beside_model) / memory.total)
        more_batches.append(shards.num_batches - memory.num_batches)
        for name, run in (("memory", memory), ("shards", shards)):
            print(
                f"{len(samples)} images in {name}: {run.total:.2f} processor s, of them "
                f"{run.beside_model:.2f} beside the model, {run.collector:.2f} in the collector",
                flush=True,
            )
    print(f"shares from {min(shares):.2%} to {max(shares):.2%}")
    return [
        Figure("shards: seconds beside the model, median", 100 * median(shares), "%", 2),
        Figure("shards: more batches of transformers' model", max(more_batches), "batches", 0),
    ]


def import_seconds() -> Figure:
    def run(code: str) -> float:
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.monotonic() - started

    run("import sekd")
    seconds = min(run("import sekd") for _ in range(5)) - min(run("pass") for _ in range(5))
    return Figure("import sekd", seconds, "s", 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a ratio falls short")
    parser.add_argument("--images", type=int, default=10_000, help="number of images")
    parser.add_argument("--engine", default="transformers", help="transformers or vllm")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        write_world(folder / "world", num_train=1, num_test=options.images, seed=0)
        for title, is_stepwise in WAYS.items():
            spec = spec_of(folder / "world", options.engine, is_stepwise=is_stepwise)
            images = [str(folder / "world" / "seen" / "images")]
            samples = samples_of(list_images(images), spec.taxonomy)
            measure_way(spec, samples[:NUM_TIMED], title)
        spec = spec_of(folder / "world", options.engine, is_stepwise=False)
        figures = [import_seconds(), *shard_overhead(spec, samples, folder)]
    finish(figures, check=options.check)


if __name__ == "__main__":
    main()
