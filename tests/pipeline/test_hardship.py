"""Full and read-only disks, missing permissions, clocks that are set back, dead machines.

Each has a clear outcome, nothing that was done is lost, and all other shards are finished. Full and
read-only disks are real: the test mounts a small tmpfs in a mount namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import fakes
import pytest
from fakes import Fake
from torture import ray_cluster

import sekd
from sekd.config import ShardRuntime
from sekd.data.shards import Shard, ShardResult
from sekd.pipeline.executors import open_executor
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.status import run_status
from sekd.pipeline.verify import verify_stage

PRELUDE = """
import logging, os, subprocess, sys
from pathlib import Path
from fakes import Fake
from sekd.data.shards import ShardResult
from sekd.errors import ConfigError, FatalError
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.verify import verify_stage

disk = Path(sys.argv[1])
ids = [str(i) for i in range(16)]

class Big:  # 64 kB a shard
    before = {}
    def process(self, shard, folder, advance):
        self.before.get(shard.index, lambda: None)()
        (folder / "states.bin").write_bytes(bytes(65536))
        return ShardResult({"states": folder / "states.bin"}, len(shard.sample_ids))
    def close(self):
        pass

def run():
    stage = Stage.open(disk / "answers", {"spec": 1}, SampleInputs.of_ids(ids, 2))
    return run_stage(stage, Big, max_attempts=1)

def remount(options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)

def check():
    outcome = run()
    assert outcome.manifest and outcome.manifest.num_samples == 16, outcome.failed
    assert not list(verify_stage(outcome.stage.directory))
    return outcome
"""

FULL = """
try:
    run()
except FatalError as error:
    assert "No space left" in str(error) and "make room" in str(error), error
else:
    raise AssertionError("the disk was not full")
ends = [path.read_text() for path in disk.glob("answers/*/attempts/*.end.json")]
done = sum('"done"' in end for end in ends)
remount("size=4m")
assert check().num_run == 8 - done >= 2, done  # and no attempt was used up
"""

READ_ONLY = """
def stop():
    raise KeyboardInterrupt

Big.before = {3: stop}
try:
    run()
except KeyboardInterrupt:
    remount("ro")
for fields in ({"spec": 1}, {"spec": 2}):
    try:
        stage = Stage.open(disk / "answers", fields, SampleInputs.of_ids(ids, 2))
        run_stage(stage, Big, max_attempts=1)
    except (ConfigError, FatalError) as error:
        step = "set another run_dir" if isinstance(error, ConfigError) else "give permission"
        assert "Read-only" in str(error) and step in str(error), error
    else:
        raise AssertionError("the disk was not read-only")
Big.before = {}
remount("rw")
assert check().num_run == 5
"""

FORBIDDEN = """
os.chmod(disk, 0o555)
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    run()
except ConfigError as error:
    assert "cannot be written" in str(error) and "set another run_dir" in str(error), error
else:
    raise AssertionError("it was permitted")
"""


def on_a_disk(tmp_path: Path, script: str, *, num_kilobytes: int | None) -> None:
    """Run a script with the path of a disk of that size as its first argument."""
    disk = tmp_path / "disk"
    disk.mkdir()
    folders = [str(Path(sekd.__file__).parents[1]), str(Path(fakes.__file__).parent)]
    python = [sys.executable, "-c", PRELUDE + script, str(disk)]
    if num_kilobytes is not None:
        space = ["unshare", "--map-root-user", "--mount"]
        if not shutil.which("unshare") or subprocess.run([*space, "true"], check=False).returncode:
            pytest.skip("no mount namespace can be made here")
        mount = f'mount -t tmpfs -o size={num_kilobytes}k none "$0" && exec "$@"'
        python = [*space, "sh", "-c", mount, str(disk), *python]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(python, check=False, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("num_kilobytes", [400, 404, 412, 440])
def test_a_full_disk_stops_the_run_and_uses_up_no_attempt(
    tmp_path: Path, num_kilobytes: int
) -> None:
    on_a_disk(tmp_path, FULL, num_kilobytes=num_kilobytes)


def test_a_disk_that_turns_read_only_stops_the_run(tmp_path: Path) -> None:
    on_a_disk(tmp_path, READ_ONLY, num_kilobytes=4000)


def test_a_directory_without_permission_is_the_users_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    on_a_disk(tmp_path, FORBIDDEN, num_kilobytes=None)


class WorkerThatSetsTheClockBack(Fake):
    """Sets the clock back by a day at shard 4."""

    def __call__(self) -> WorkerThatSetsTheClockBack:  # type: ignore[override]
        return self

    def process(self, shard: Shard, folder: Path, advance: object) -> ShardResult:
        if shard.index == 4:
            now = time.time()
            time.time = lambda: now - 86_400
        (folder / "a.txt").write_text(str(shard.index))
        return ShardResult({"answers": folder / "a.txt"}, len(shard.sample_ids))

    def close(self) -> None:
        pass


def test_a_clock_that_is_set_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", time.time)  # put back afterwards
    ids = [str(i) for i in range(16)]
    stage = Stage.open(tmp_path / "answers", {"spec": 1}, SampleInputs.of_ids(ids, 2))
    outcome = run_stage(stage, WorkerThatSetsTheClockBack(), max_attempts=1)
    assert outcome.manifest is not None
    assert outcome.num_run == 8
    assert not list(verify_stage(stage.directory))
    (status,) = run_status(tmp_path)
    assert status.is_complete
    assert status.rate is not None
    assert status.rate > 0


def test_a_machine_that_dies_costs_only_the_shards_that_it_worked_on(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ids = [str(i) for i in range(32)]
    stage = Stage.open(tmp_path / "answers", {"spec": 1}, SampleInputs.of_ids(ids, 2))
    attempts = stage.directory / "attempts"
    with ray_cluster(1) as cluster:
        node = cluster.add_node(num_cpus=2, object_store_memory=80_000_000)

        def kill() -> None:
            while len(list(attempts.glob("*.end.json"))) < 4:
                time.sleep(0.05)
            cluster.remove_node(node, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        runtime = ShardRuntime(executor="ray", workers=4, address=cluster.address)
        outcome = run_stage(stage, Fake(pause=0.2), max_attempts=2, executor=open_executor(runtime))
        killer.join()
        ray.shutdown()
    # Of four workers on two machines, the two on the dead machine worked on one or two shards.
    assert outcome.num_run == 16
    assert 1 <= len(outcome.failed) <= 2, outcome.failed
    again = run_stage(stage, Fake(), max_attempts=2)
    assert again.manifest is not None
    assert again.num_run == len(outcome.failed)
    assert not list(verify_stage(stage.directory))
