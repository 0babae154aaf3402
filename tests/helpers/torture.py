"""Kills runs at random moments, over every executor and store, and counts what was lost.

    python tests/helpers/torture.py --kills 200 --seeds 42

A run is a process of its own; it is killed (SIGKILL) at a random moment after it has imported sekd,
or, where it has worker processes, one of those is. When a run has come through, its content must be
that of an undisturbed one, every shard done once and never begun again after, and every file that
the manifest names must be there with its hash. The last line has the figures; exit code 1 on loss.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from fakes import Fake
from store import s3_store

import sekd
from sekd.config import ShardRuntime
from sekd.io.files import names_in, read_many
from sekd.io.hashing import digest
from sekd.io.locations import Location, to_location
from sekd.io.records import unseal
from sekd.pipeline.executors import open_executor
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import Plan
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.verify import verify_stage

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

KINDS = [
    (executor, store) for executor in ("inline", "process", "ray") for store in ("local", "s3")
]
_FIELDS = {"spec": 1}
_IDS = [f"sample {i}" for i in range(24)]
_GIVE_UP_AFTER = 180.0


def run(url: str, executor: str, address: str | None) -> None:
    """One run to its end, unless it is killed."""
    logging.disable()
    print("ready", flush=True)
    stage = Stage.open(to_location(url), _FIELDS, lambda: Plan.split(_IDS, 2))
    runtime = ShardRuntime(executor=executor, workers=2, address=address)
    fake = Fake(pause=0.01, load_seconds=0.1)
    outcome = run_stage(stage, fake, max_attempts=1000, executor=open_executor(runtime))
    if outcome.manifest is None:
        sys.exit(f"left: {outcome.failed}")


def _launch(url: str, executor: str, address: str | None) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "run", url, executor, address or ""]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment()
    )


def _environment() -> dict[str, str]:
    folders = [str(Path(sekd.__file__).parents[1]), str(Path(__file__).parent)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders)}


def _pick(process: subprocess.Popen[str], executor: str, rng: random.Random) -> int:
    """The process to kill: a worker of the run, or the run itself."""
    if executor == "process" and rng.random() < 0.5:
        try:
            children = psutil.Process(process.pid).children()
        except psutil.Error:
            children = []
        if children:
            return rng.choice(children).pid
    return process.pid


@dataclass(frozen=True)
class Result:
    num_kills: int
    losses: list[str]


def torture(
    root: str, executor: str, address: str | None, seed: int, num_kills: int, expected: str
) -> Result:
    """Kill a run up to so many times, let it come through, and check it."""
    rng = random.Random(seed)
    killed = 0
    seconds = {"inline": 1.0, "process": 5.0, "ray": 8.0}[executor]
    url = f"{root}/{executor}-{seed}/answers"
    while killed < num_kills:
        with _launch(url, executor, address) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(rng.uniform(0, seconds * (killed + 1) / num_kills))
                break
            except subprocess.TimeoutExpired:
                victim = _pick(process, executor, rng)
            try:
                os.kill(victim, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
            if victim == process.pid:
                continue
            process.wait(_GIVE_UP_AFTER)
    with _launch(url, executor, address) as process:
        try:
            code = process.wait(_GIVE_UP_AFTER)
        except subprocess.TimeoutExpired:
            process.kill()
            return Result(killed, [f"{url}: the last run did not end"])
    return Result(
        killed, [f"{url}: exit code {code}"] if code else check(to_location(url), expected)
    )


def check(root: Location, expected: str) -> list[str]:
    """What is wrong with a run that has come through."""
    (name,) = names_in(root)
    directory = root / name
    losses = []
    if content(directory) != expected:
        losses.append(f"{directory}: other content than an undisturbed run")
    last: dict[str, int] = {}
    done: dict[str, list[int]] = {}
    records = read_many(directory / "attempts", names_in(directory / "attempts"))
    for record, text in records.items():
        attempt, kind, _ = record.split(".")
        shard, number = attempt.split("-")
        if kind == "start":
            last[shard] = max(last.get(shard, 0), int(number))
        elif kind == "end" and unseal(text)["status"] == "done":
            done.setdefault(shard, []).append(int(number))
    for shard, number in last.items():
        if done.get(shard) != [number]:
            losses.append(f"{directory}: shard {shard} done in {done.get(shard)}, begun {number}")
    losses += [f"{damage.path}: {damage.reason}" for damage in verify_stage(directory)]
    return losses


def content(directory: Location) -> str:
    """What readers see, as a hash."""
    manifest = Manifest.load(directory)
    return digest([manifest.hashes(), manifest.quarantined, manifest.stats("index")])


def undisturbed(folder: Path) -> str:
    """The content that all runs must come to."""
    stage = Stage.open(folder / "answers", _FIELDS, lambda: Plan.split(_IDS, 2))
    run_stage(stage, Fake(), max_attempts=1)
    return content(stage.directory)


@contextmanager
def ray_cluster(num_nodes: int = 2) -> Iterator[Cluster]:
    """A cluster of that many nodes, each a set of processes."""
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(_environment())
    node = {"num_cpus": 2, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        for _ in range(num_nodes - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=42)
    options = parser.parse_args()
    num_kills, num_seeds, losses, started = 0, 0, [], time.monotonic()
    per_seed = -(-options.kills // options.seeds)
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch, s3_store() as bucket, ray_cluster() as cluster:
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        expected = undisturbed(Path(scratch))
        while num_seeds < options.seeds or num_kills < options.kills:
            executor, store = KINDS[num_seeds % len(KINDS)]
            result = torture(
                bucket if store == "s3" else scratch,
                executor,
                cluster.address if executor == "ray" else None,
                num_seeds,
                per_seed + 1,
                expected,
            )
            num_seeds += 1
            num_kills += result.num_kills
            counts[f"{executor}/{store}"] = counts.get(f"{executor}/{store}", 0) + result.num_kills
            losses += result.losses
            for loss in result.losses:
                print(loss, flush=True)
            print(
                f"seed {num_seeds - 1}: {executor}, {store}, {result.num_kills} kills", flush=True
            )
    print(
        f"{num_kills} kills over {num_seeds} seeds ({counts}) in "
        f"{time.monotonic() - started:.0f} s: {len(losses)} losses"
    )
    sys.exit(1 if losses else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(sys.argv[2], sys.argv[3], sys.argv[4] or None)
    else:
        main()
