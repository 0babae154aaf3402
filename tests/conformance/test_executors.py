"""One suite for every executor: what is done, what a failure costs, and which workers go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from fakes import Fake

from sekd.config import ShardRuntime
from sekd.errors import ConfigError, FatalError
from sekd.io.stop_signals import stop_signals_kept
from sekd.pipeline import work
from sekd.pipeline.executors import EXECUTORS, open_executor
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.runner import Outcome, run_stage
from sekd.pipeline.stage import Stage
from sekd.pipeline.verify import verify_stage

IDS = [f"sample {i}" for i in range(16)]  # eight shards of two


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """A small cluster on this machine."""
    ray = pytest.importorskip("ray")
    folder = Path(__file__).parents[1] / "helpers"
    paths = os.pathsep.join([str(folder), str(Path(work.__file__).parents[2])])
    with stop_signals_kept():
        ray.init(
            num_cpus=2,
            object_store_memory=80_000_000,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
        )
    yield "local"
    ray.shutdown()


@pytest.fixture(params=list(EXECUTORS))
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


@pytest.fixture(params=[name for name in EXECUTORS if name != "inline"])
def pooled(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


def run(
    root: Path, kind: str, fake: Fake, *, timeout: float | None = None, max_attempts: int = 3
) -> Outcome:
    stage = Stage.open(root, {"spec": 1}, SampleInputs.of_ids(IDS, 2))
    executor = open_executor(ShardRuntime(executor=kind, workers=2))
    return run_stage(
        stage, fake, max_attempts=max_attempts, executor=executor, shard_timeout=timeout
    )


def check(outcome: Outcome) -> None:
    assert outcome.manifest is not None
    assert outcome.manifest.stats("index") == list(range(8))
    assert outcome.manifest.num_samples == 8
    assert len(outcome.manifest.quarantined) == 8
    assert not list(verify_stage(outcome.stage.directory))


def test_the_config_names_every_executor() -> None:
    assert get_args(ShardRuntime.model_fields["executor"].annotation) == tuple(EXECUTORS)


def test_every_shard_is_done_once(tmp_path: Path, kind: str) -> None:
    outcome = run(tmp_path / "answers", kind, Fake())
    check(outcome)
    assert outcome.num_run == 8
    starts = list(outcome.stage.directory.glob("attempts/*.start.json"))
    assert len(starts) == 8


def test_a_failed_shard_does_not_stop_the_others(tmp_path: Path, kind: str) -> None:
    outcome = run(tmp_path / "answers", kind, Fake({3: "fail"}))
    assert outcome.failed == {3: "ShardError: no luck"}
    log = (outcome.stage.directory / "logs" / "00003-001.jsonl").read_text("utf-8")
    assert '"traceback": "Traceback' in log
    check(run(tmp_path / "answers", kind, Fake()))


def test_a_shard_that_hangs_is_given_up(tmp_path: Path, kind: str) -> None:
    outcome = run(tmp_path / "answers", kind, Fake({3: "hang"}), timeout=4)
    assert list(outcome.failed) == [3]
    assert "no end after 4 s (runtime.shard_timeout)" in outcome.failed[3]
    check(run(tmp_path / "answers", kind, Fake()))


def test_a_shard_that_kills_its_worker_does_not_stop_the_others(
    tmp_path: Path, pooled: str
) -> None:
    for number in (1, 2, 3):
        outcome = run(tmp_path / "answers", pooled, Fake({2: "kill", 5: "kill"}), max_attempts=2)
        assert list(outcome.failed) == [2, 5]
        assert outcome.num_run == {1: 8, 2: 2, 3: 0}[number]
    assert list(outcome.exhausted) == [2, 5]
    check(run(tmp_path / "answers", pooled, Fake(), max_attempts=3))


def test_a_run_ends_when_no_worker_is_left(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FatalError, match="the engine is dead"):
        run(tmp_path / "answers", kind, Fake({0: "fatal", 1: "fatal"}))
    check(run(tmp_path / "answers", kind, Fake()))


def open_no_worker() -> None:
    raise ConfigError("elicit.layers: no such layer")


def test_a_config_error_of_a_worker_reaches_the_user(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match="no such layer"):
        run(tmp_path / "answers", kind, open_no_worker)  # type: ignore[arg-type]


def die_while_opening() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_while_they_open_end_the_run(tmp_path: Path, pooled: str) -> None:
    with pytest.raises(FatalError, match="no worker is left; the last one: "):
        run(tmp_path / "answers", pooled, die_while_opening)  # type: ignore[arg-type]
    outcome = run(tmp_path / "answers", pooled, Fake(), max_attempts=1)
    assert outcome.num_run == 8  # no attempt was used up
    check(outcome)


STOPPED_PROGRAM = """
import sys
from pathlib import Path
from fakes import Fake
from test_executors import run
from sekd.io.stop_signals import stop_signals_raise, stopped_by

with stop_signals_raise():
    try:
        run(Path(sys.argv[1]), sys.argv[2], Fake(pause=60))
    except KeyboardInterrupt as error:
        sys.exit("stopped by " + stopped_by(error).name)
"""


@pytest.mark.parametrize("kind", list(EXECUTORS))  # not the fixture: each program has a cluster
def test_sigterm_stops_a_run_in_order(tmp_path: Path, kind: str) -> None:
    if kind == "ray":
        pytest.importorskip("ray")
    folders = [Path(__file__).parent, Path(__file__).parents[1] / "helpers"]
    paths = os.pathsep.join([*map(str, folders), str(Path(work.__file__).parents[2])])
    command = [sys.executable, "-c", STOPPED_PROGRAM, str(tmp_path / "answers"), kind]
    environment = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as program:
        while program.poll() is None and not list(tmp_path.glob("answers/*/attempts/*")):
            time.sleep(0.1)
        time.sleep(1)
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=60)
    assert errors.splitlines()[-1] == "stopped by SIGTERM"
    assert program.returncode == 1


def test_two_runners_share_the_work(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(
            target=lambda: outcomes.append(
                run(tmp_path / "answers", "process", Fake(pause=0.1), max_attempts=1)
            )
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    for outcome in outcomes:
        check(outcome)
    assert sum(outcome.num_run for outcome in outcomes) == 8


def test_each_worker_sees_only_its_own_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    stage = Stage.open(tmp_path / "answers", {"spec": 1}, SampleInputs.of_ids(IDS, 2))
    executor = open_executor(ShardRuntime(executor="process", workers=2, gpus_per_worker=2))
    outcome = run_stage(stage, Fake(pause=0.1), max_attempts=1, executor=executor)
    assert outcome.manifest is not None
    assert set(outcome.manifest.stats("devices")) == {"4,5", "6,7"}
    with pytest.raises(ConfigError, match="need 6 devices"):
        open_executor(ShardRuntime(executor="process", workers=3, gpus_per_worker=2))
