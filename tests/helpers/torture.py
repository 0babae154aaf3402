"""Kill runs at random moments, with every executor and store, and count what was lost.

    python tests/helpers/torture.py --kills 200 --seeds 42

Each run is a process of its own. It, or one of its worker processes, is killed (SIGKILL) at a
random moment after it has imported sekd, and started again. When a run has ended, its content must
be that of an undisturbed run, every shard must be done once and not begun again afterwards, and
every file that the manifest names must exist with its hash. The last line has the counts; the exit
code is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from fakes import Fake
from plans import manifest_of
from store import s3_store

import sekd
from sekd.config import ShardRuntime
from sekd.io.files import names_in, read_many
from sekd.io.hashing import digest
from sekd.io.locations import Location, to_location
from sekd.io.records import unseal
from sekd.pipeline.executors import open_executor
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.names import parse_record_name
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
    """Run a stage to its end, unless the process is killed."""
    logging.disable()
    print("ready", flush=True)
    stage = Stage.open(to_location(url), _FIELDS, SampleInputs.of_ids(_IDS, 2))
    runtime = ShardRuntime(executor=executor, workers=2, address=address)
    fake = Fake(pause=0.01, load_seconds=0.1)
    outcome = run_stage(stage, fake, max_attempts=1000, executor=open_executor(runtime))
    if outcome.manifest is None:
        sys.exit(f"shards are left: {outcome.failed}")


def _launch(url: str, executor: str, address: str | None) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "run", url, executor, address or ""]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment()
    )


def _environment() -> dict[str, str]:
    folders = [str(Path(sekd.__file__).parents[1]), str(Path(__file__).parent)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders)}


def _pick_victim(process: subprocess.Popen[str], executor: str, rng: random.Random) -> int:
    """Return the process to kill: a worker of the run, or the run itself."""
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
    """Kill a run up to ``num_kills`` times, then let it end, and check it."""
    rng = random.Random(seed)
    num_killed = 0
    seconds = {"inline": 1.0, "process": 5.0, "ray": 8.0}[executor]
    url = f"{root}/{executor}-{seed}/answers"
    while num_killed < num_kills:
        with _launch(url, executor, address) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(rng.uniform(0, seconds * (num_killed + 1) / num_kills))
                break
            except subprocess.TimeoutExpired:
                victim = _pick_victim(process, executor, rng)
            try:
                os.kill(victim, signal.SIGKILL)
                num_killed += 1
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
            return Result(num_killed, [f"{url}: the last run did not end"])
    if code:
        return Result(num_killed, [f"{url}: exit code {code}"])
    return Result(num_killed, check(to_location(url), expected))


def check(root: Location, expected: str) -> list[str]:
    """Say what is wrong with a run that has ended."""
    (name,) = names_in(root)
    directory = root / name
    losses = []
    if content(directory) != expected:
        losses.append(f"{directory}: other content than an undisturbed run")
    last_begun: dict[int, int] = {}
    done: dict[int, list[int]] = {}
    records = read_many(directory / "attempts", names_in(directory / "attempts"))
    for name, record in records.items():
        shard, number, kind = parse_record_name(name)
        if kind == "start":
            last_begun[shard] = max(last_begun.get(shard, 0), number)
        elif kind == "end" and unseal(record)["status"] == "done":
            done.setdefault(shard, []).append(number)
    for shard, number in last_begun.items():
        if done.get(shard) != [number]:
            losses.append(f"{directory}: shard {shard} done in {done.get(shard)}, begun {number}")
    losses += [f"{damage.path}: {damage.reason}" for damage in verify_stage(directory)]
    return losses


def content(directory: Location) -> str:
    """Return a hash of what readers see."""
    manifest = manifest_of(directory)
    return digest([manifest.fingerprint, manifest.quarantined, manifest.stats("index")])


def undisturbed(folder: Path) -> str:
    """Return the content that every run must have in the end."""
    stage = Stage.open(folder / "answers", _FIELDS, SampleInputs.of_ids(_IDS, 2))
    run_stage(stage, Fake(), max_attempts=1)
    return content(stage.directory)


@contextmanager
def ray_cluster(num_nodes: int = 2) -> Iterator[Cluster]:
    """Run a Ray cluster of that many nodes, each a set of processes on this machine."""
    from ray.cluster_utils import Cluster

    previous = dict(os.environ)
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
        os.environ.update(previous)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="smallest number of kills")
    parser.add_argument("--seeds", type=int, default=42, help="smallest number of runs")
    options = parser.parse_args()
    started = time.monotonic()
    num_seeds, losses = 0, []
    kills: Counter[str] = Counter()
    kills_per_seed = math.ceil(options.kills / options.seeds) + 1
    with tempfile.TemporaryDirectory() as scratch, s3_store() as bucket, ray_cluster() as cluster:
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        expected = undisturbed(Path(scratch))
        while num_seeds < options.seeds or kills.total() < options.kills:
            executor, store = KINDS[num_seeds % len(KINDS)]
            root = bucket if store == "s3" else scratch
            address = cluster.address if executor == "ray" else None
            result = torture(root, executor, address, num_seeds, kills_per_seed, expected)
            kills[f"{executor}/{store}"] += result.num_kills
            losses += result.losses
            for loss in result.losses:
                print(loss, flush=True)
            print(f"seed {num_seeds}: {executor}, {store}, {result.num_kills} kills", flush=True)
            num_seeds += 1
    print(
        f"{kills.total()} kills over {num_seeds} seeds ({dict(kills)}) in "
        f"{time.monotonic() - started:.0f} s: {len(losses)} losses"
    )
    sys.exit(1 if losses else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(sys.argv[2], sys.argv[3], sys.argv[4] or None)
    else:
        main()
