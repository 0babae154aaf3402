"""Measure `sekd predict` from files: both ways, one image alone, and what shards and imports cost.

    python benchmarks/predict_run.py [--check] [--images 10000] [--engine transformers]

The tiny model of this package predicts drawn images, by a single pass and by descent. Shards are
charged with the processor seconds that the same images take beyond those in memory; the machine may
be busy with other work. Importing `sekd` is measured against an interpreter that imports nothing.
The last lines have the ratios beside their limits; with --check the exit code is 1 if one falls
short.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median

from figures import Figure, finish

from sekd.data.image_hashes import ImageHashes
from sekd.data.image_inputs import list_images, samples_of
from sekd.data.samples import Samples
from sekd.data.toyworld import write_world
from sekd.stages.predict.predictor import Predictor
from sekd.stages.predict.request import PredictionRequest
from sekd.stages.predict.run import predict_images
from sekd.stages.predict.setup import PredictorSpec, set_up

NUM_ALONE = 9
SHARD_SIZE = 1000
NUM_PAIRS = 5
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


def processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def shard_overhead(spec: PredictorSpec, samples: Samples, folder: Path) -> Figure:
    """Compare shards with memory, in pairs; both load the model, and image hashes are cached."""
    list(predict_images(spec, samples[:300], folder / "warm"))
    ImageHashes(samples).compute(lambda _: None)
    ratios = []
    for pair in range(NUM_PAIRS):
        place = folder / f"shards{pair}"
        ways: list[Callable[[], object]] = [
            lambda: deque(predict_images(spec, samples), maxlen=0),
            lambda place=place: deque(predict_images(spec, samples, place), maxlen=0),
        ]
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        seconds = {way: processor_seconds(ways[way]) for way in order}
        ratios.append(seconds[1] / seconds[0])
        print(f"{len(samples)} images: {seconds[0]:.2f} processor s, in shards {seconds[1]:.2f}")
    print(f"ratios from {min(ratios):.3f} to {max(ratios):.3f}")
    return Figure("shards / memory, median of pairs", median(ratios), "times", 1.02)


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
        figures = [import_seconds(), shard_overhead(spec, samples, folder)]
    finish(figures, check=options.check)


if __name__ == "__main__":
    main()
