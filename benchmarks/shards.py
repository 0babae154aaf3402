"""Measure the shard layer: growth, inputs, planning, status, its share, two workers over one.

    python benchmarks/shards.py [--check]

The last lines have the figures beside their limits; with --check the exit code is 1 where one falls
short. Two workers need two free cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from figures import Figure, finish

from sekd.config import RunConfig, load_config
from sekd.data.image_hashes import ImageHashes
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.data.toyworld import write_world
from sekd.io.records import seal, unseal
from sekd.pipeline.executors import open_executor
from sekd.pipeline.inputs import SampleInputs, ShardInputs
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.names import new_data_folder, record_name
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage
from sekd.stages.elicit.answers import AnswersWorker, answers_fields

NUM_PLANNED = 10_000_000
NUM_SHARDS = 20_000
SAMPLES_PER_SHARD = 16
NUM_GROWN = 10_000
NUM_ELICITED = 3072

PLAN = """
import itertools, resource, sys, time
from pathlib import Path
from sekd.config import DatasetSpec
from sekd.data.samples import Dataset
from sekd.pipeline.inputs import SampleInputs, ShardInputs
from sekd.pipeline.stage import Stage
folder = Path(sys.argv[1])
started = time.monotonic()
spec = DatasetSpec(taxonomy=folder / "taxonomy.json", table=folder / "table.csv")
dataset = Dataset.load("train", spec)
loaded = time.monotonic()
images = itertools.repeat(None, len(dataset.samples))
stage = Stage.open(folder / "answers", {"spec": 1}, SampleInputs.of(dataset, images, 256))
ended = time.monotonic()
assert stage.plan.num_samples == len(dataset.samples)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(loaded - started, ended - loaded, peak)
"""


def planning(folder: Path) -> list[Figure]:
    """A CSV of ten million rows, read and checked, split, and its plan stored."""
    leaves = {f"leaf {i}": ["Life", f"genus {i // 20}", f"leaf {i}"] for i in range(1000)}
    (folder / "taxonomy.json").write_text(json.dumps(leaves), encoding="utf-8")
    with (folder / "table.csv").open("w", encoding="utf-8") as file:
        file.write("image,label\n")
        for i in range(NUM_PLANNED):
            file.write(f"train/{i % 1000:04d}/{i:08d}.jpg,leaf {i % 1000}\n")
    done = subprocess.run(
        [sys.executable, "-c", PLAN, str(folder)], check=True, capture_output=True, text=True
    )
    load, plan, peak = map(float, done.stdout.split())
    print(f"planning: {load:.1f} s to read the table, {plan:.1f} s to split and store")
    return [
        Figure(f"planning {NUM_PLANNED:,} samples", load + plan, "s", 60),
        Figure("  peak memory", peak, "GB", 2),
    ]


def status(folder: Path) -> list[Figure]:
    """`sekd status`, the process included, over a run of which all but one shard are done."""
    ids = [str(i) for i in range(NUM_SHARDS)]
    stage = Stage.open(folder / "run/answers", {"spec": 1}, SampleInputs.of_ids(ids, 1))
    attempts = stage.directory / "attempts"
    attempts.mkdir()
    process = {"host": "elsewhere", "pid": 1, "born": "1"}
    for shard in range(NUM_SHARDS - 1):
        start = {"shard": shard, "attempt": 1, "process": process, "started": 0.0}
        file = {"role": "answers", "path": "data/x", "bytes": 1, "sha256": "0" * 64}
        end = start | {"status": "done", "files": [file], "num_done": 1, "quarantined": []}
        end |= {"figures": {}, "ended": 1.0, "seconds": 1.0}
        (attempts / record_name(shard, 1, "start")).write_bytes(seal(start))
        (attempts / record_name(shard, 1, "end")).write_bytes(seal(end))
    command = [sys.executable, "-m", "sekd", "status", str(folder / "run"), "--json"]
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds.append(time.monotonic() - started)
        assert json.loads(done.stdout)[0]["num_done"] == NUM_SHARDS - 1
    return [Figure(f"sekd status over {NUM_SHARDS:,} shards", float(np.median(seconds)), "s", 2)]


class _Quick:
    """Writes an empty file for each shard."""

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        (folder / "empty").touch()
        return ShardResult({"empty": folder / "empty"}, len(shard.sample_ids))

    def close(self) -> None:
        pass


def growth(folder: Path) -> list[Figure]:
    """A dataset of which one image is replaced, and which then gets more rows."""
    ids = [f"{i:05d}.jpg" for i in range(NUM_GROWN)]

    def num_run(ids: list[str], replaced: int | None = None) -> int:
        inputs = SampleInputs.of_ids(ids, 256)
        inputs.images[:] = ["0" * 64] * len(ids)
        if replaced is not None:
            inputs.images[replaced] = "1" * 64
        stage = Stage.open(folder / "grown", {"spec": 1}, inputs)
        outcome = run_stage(stage, _Quick, max_attempts=1)
        assert outcome.manifest is not None
        assert outcome.manifest.num_samples == len(ids)
        return outcome.num_run

    num_all = num_run(ids)
    added = [f"new {i}" for i in range(500)]
    num_again = num_run([*ids, *added], replaced=NUM_GROWN // 2)
    num_back = num_run(ids)
    print(f"growth: {num_all} shards of {NUM_GROWN:,} samples; back as they were: {num_back} run")
    most = 1 + -(-500 // 256)
    return [
        Figure("shards run for 1 image replaced and 500 added", num_again, "shards", most),
        Figure("  and for the samples as they were before", num_back, "shards", 0),
    ]


FINISHED = """
import sys, time
from pathlib import Path
from sekd.pipeline.inputs import SampleInputs, ShardInputs
from sekd.pipeline.stage import find_finished
folder, num_shards, num_samples = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
ids = [f"train/{i:07d}.jpg" for i in range(num_shards * num_samples)]
inputs = SampleInputs.of_ids(ids, num_samples)
inputs.images[:] = [f"{i:064x}" for i in range(len(ids))]
started, cpu = time.monotonic(), time.process_time()
plan, answers = find_finished(folder / "answers", {"spec": 1}, inputs)
assert sum(1 for _ in answers.files_by_shard("transcripts", "answers").values()) == num_shards
one_stage = time.monotonic() - started
keys = answers.keys_of_files()
made_from = ShardInputs({keys[shard.index]: shard.sample_ids for shard in plan})
_, states = find_finished(folder / "states", {"spec": 1}, made_from)
assert sum(1 for _ in states.files_by_shard("states").values()) == num_shards
print(one_stage, time.monotonic() - started, time.process_time() - cpu)
"""


def finished(folder: Path) -> list[Figure]:
    """Measure how long finished answers and states are checked before `sekd distill` reads them.

    A process of its own checks samples, plans, manifests and every file, as the command does.
    """
    ids = [f"train/{i:07d}.jpg" for i in range(NUM_SHARDS * SAMPLES_PER_SHARD)]
    inputs = SampleInputs.of_ids(ids, SAMPLES_PER_SHARD)
    inputs.images[:] = [f"{i:064x}" for i in range(len(ids))]
    answers = Stage.open(folder / "answers", {"spec": 1}, inputs)
    keys = _finish(answers, ("transcripts", "answers")).keys_of_files()
    made_from = ShardInputs({keys[shard.index]: shard.sample_ids for shard in answers.plan})
    states = Stage.open(folder / "states", {"spec": 1}, made_from)
    _finish(states, ("states",))
    time.sleep(3)  # hashes of files that are younger than two seconds are not remembered
    sizes = map(str, (NUM_SHARDS, SAMPLES_PER_SHARD))
    command = [sys.executable, "-c", FINISHED, str(folder), *sizes]
    seconds = []
    for _ in range(4):  # the first one hashes, the others are warm
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds.append(list(map(float, done.stdout.split())))
    one_stage, both, cpu = np.median(seconds[1:], axis=0)
    print(f"finished: {seconds[0][1]:.1f} s cold; {both:.2f} s warm, of which {cpu:.2f} s of CPU")
    return [
        Figure(f"{NUM_SHARDS:,} finished shards with two files each checked", one_stage, "s", 2),
        Figure("  and as many with one file that are made from them", both - one_stage, "s", 2),
    ]


def _finish(stage: Stage, roles: Sequence[str]) -> Manifest:
    """Do every shard of a stage by hand."""
    (stage.directory / "attempts").mkdir()
    for shard in stage.plan:
        data = f"data/{new_data_folder(shard.index, 1)}"
        (stage.directory / data).mkdir(parents=True)
        files = []
        for role in roles:
            content = f"{role} {shard.index}".encode()
            (stage.directory / data / role).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            entry = {"role": role, "path": f"{data}/{role}", "bytes": len(content)}
            files.append(entry | {"sha256": sha256})
        end = {"shard": shard.index, "attempt": 1, "status": "done", "key": shard.key}
        end |= {"files": files, "num_done": SAMPLES_PER_SHARD, "quarantined": [], "figures": {}}
        end |= {"started": 0.0, "ended": 1.0, "seconds": 1.0}
        (stage.directory / "attempts" / record_name(shard.index, 1, "end")).write_bytes(seal(end))
    manifest = Manifest.finalise(stage.ledger, stage.fingerprint, stage.plan, stage.states())
    assert manifest
    return manifest


class _Clocked:
    """A worker whose own time is known."""

    def __init__(self, open_worker: Callable[[], AnswersWorker]) -> None:
        started = time.monotonic()
        self._worker = open_worker()
        self.seconds = time.monotonic() - started

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        started = time.monotonic()
        result = self._worker.process(shard, folder, advance)
        self.seconds += time.monotonic() - started
        return result

    def close(self) -> None:
        self._worker.close()


def elicitation(folder: Path) -> list[Figure]:
    """The tiny model over drawn pictures, in shards of 256."""
    write_world(folder / "world", num_train=NUM_ELICITED, num_test=1, seed=0)
    config = load_config(
        folder / "world/config.yaml", [f"run_dir={folder}", "elicit.runtime.shard_size=256"]
    )
    dataset = Dataset.load("train", config.data["train"])
    images = ImageHashes(dataset.samples)
    images.compute(lambda _: None)
    inputs = SampleInputs.of(dataset, images, 256)
    fields = answers_fields(config, dataset)
    clocks: list[_Clocked] = []

    def open_clocked() -> _Clocked:
        clocks.append(_Clocked(partial(AnswersWorker, config, dataset)))
        return clocks[-1]

    started = time.monotonic()
    stage = Stage.open(folder / "clocked", fields, inputs)
    assert run_stage(stage, open_clocked, max_attempts=1).manifest
    seconds = time.monotonic() - started
    own = 1 - clocks[0].seconds / seconds
    one, two = (_span(folder, config, dataset, fields, inputs, num) for num in (1, 2))
    rates = f"{NUM_ELICITED / one:.0f} samples/s with one worker, {NUM_ELICITED / two:.0f} with two"
    print(f"elicitation: {rates}")
    return [
        Figure("the shard layer's own share of an elicitation", 100 * own, "%", 2),
        Figure("two workers over one", one / two, "times", 1.7, is_ceiling=False),
    ]


def _span(
    folder: Path,
    config: RunConfig,
    dataset: Dataset,
    fields: dict[str, object],
    inputs: SampleInputs,
    num_workers: int,
) -> float:
    """Seconds from the first shard's start to the last one's end; loading is left out."""
    runtime = config.elicit.runtime.model_copy(
        update={"executor": "process", "workers": num_workers}
    )
    stage = Stage.open(folder / f"workers-{num_workers}", fields, inputs)
    worker = partial(AnswersWorker, config, dataset)
    assert run_stage(stage, worker, max_attempts=1, executor=open_executor(runtime)).manifest
    ends = [unseal(path.read_bytes()) for path in stage.directory.glob("attempts/*.end.json")]
    return max(end["ended"] for end in ends) - min(end["started"] for end in ends)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure falls short")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    figures: list[Figure] = []
    for measure in (growth, finished, planning, status, elicitation):
        with tempfile.TemporaryDirectory() as folder:
            figures += measure(Path(folder))
    finish(figures, check=options.check)


if __name__ == "__main__":
    main()
