"""Garbage: what failed attempts and dead processes left of any command, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import Fake

from sekd.io.files import remove, write_atomically
from sekd.io.locations import cache_directory
from sekd.io.processes import process_tag
from sekd.pipeline.garbage import find_garbage
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.names import attempt_of_data_folder
from sekd.pipeline.runner import Outcome, run_stage
from sekd.pipeline.sole_process import sole_process
from sekd.pipeline.stage import Stage
from sekd.pipeline.verify import verify_stage

IDS = [f"sample {i}" for i in range(24)]  # six shards of four


def run(root: Path, worker: Fake) -> Outcome:
    stage = Stage.open(root, {"spec": 1}, SampleInputs.of_ids(IDS, 4))
    return run_stage(stage, worker, max_attempts=3)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage whose shard 2 failed once; all others are done."""
    outcome = run(tmp_path / "answers", Fake({2: "fail"}))
    assert list(outcome.failed) == [2]
    return outcome.stage


def garbage_names(stage: Stage) -> dict[str, int]:
    """Name -> bytes, of each piece of garbage; data folders go by the name of their attempt."""
    names = {}
    for found in find_garbage(stage.directory.parents[1]):
        name = found.path.name
        is_data_folder = found.path.parent == stage.ledger.data
        names[attempt_of_data_folder(name) if is_data_folder else name] = found.num_bytes
    return names


def test_the_folder_of_a_failed_attempt_is_garbage(stage: Stage) -> None:
    assert garbage_names(stage).keys() == {"00002-001"}


def test_an_attempt_that_may_be_running_keeps_its_files(stage: Stage) -> None:
    attempt = stage.ledger.begin(2)
    (attempt.folder / "half").write_bytes(b"x" * 100)
    beat = stage.directory / "attempts" / "00002-002.beat.json"
    write_atomically(beat, "{}")
    assert garbage_names(stage).keys() == {"00002-001"}
    attempt.release()
    write_atomically(beat, "{}")  # as a killed process leaves it
    names = garbage_names(stage)
    assert names["00002-002"] == 100
    assert names.keys() == {"00002-001", "00002-002", "00002-002.beat.json"}


def test_unused_plans_are_garbage(stage: Stage) -> None:
    unused = f"plan-00000-{32 * '0'}.parquet"
    (stage.directory / unused).write_text("of a slower runner")
    assert garbage_names(stage).keys() == {"00002-001", unused}


WRITER = """
import sys, time
from pathlib import Path
from sekd.io.files import replace_atomically
with replace_atomically(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "half").write_text("{")
    print(temporary.name, flush=True)
    time.sleep(600)
"""


PLACES = (
    "metrics.json",
    "answers/0123456789abcdef/attempts/00002-002.end.json",
    "distill/0123456789abcdef/adapter",
    "distill/0123456789abcdef/checkpoints/checkpoint-1",
    "distill/0123456789abcdef/checkpoints/checkpoint-2/checkpoint.record.json",
    "predictions/student-seen-joint/0123456789abcdef/plan-00000.json",
    "benchmark/vqa-base/0123456789abcdef/results",
    "sweep/table.md",
    "rounds/rounds.json",
    "rounds/2/distill/0123456789abcdef/adapter",
    "rounds/2/metrics.json",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_temporary_file_is_garbage_when_its_writer_is_dead(stage: Stage, place: str) -> None:
    target = stage.directory.parents[1] / place
    command = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        name = writer.stdout.readline().strip()
        assert garbage_names(stage).keys() == {"00002-001"}
        writer.kill()
    found = garbage_names(stage)
    assert found.keys() == {"00002-001", name}
    assert found[name] == 1


def test_what_a_dead_process_left_in_the_cache_is_garbage(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    name = f".model-1.{process_tag()}0-0123456789ab.tmp"
    merged = cache_directory() / "merged" / name
    merged.mkdir(parents=True)
    (merged / "weights").write_bytes(b"x" * 100)
    assert garbage_names(stage)[name] == 100


def test_the_heartbeat_of_a_training_that_was_killed_is_garbage(stage: Stage) -> None:
    student = stage.directory.parents[1] / "distill" / "0123456789abcdef"
    beat = "00000-001.beat.json"
    with sole_process(student, "trains"):
        write_atomically(student / "attempts" / beat, "{}")
        assert garbage_names(stage).keys() == {"00002-001"}
    write_atomically(student / "attempts" / beat, "{}")
    assert garbage_names(stage).keys() == {"00002-001", beat}


def test_a_temporary_file_of_another_machine_is_garbage_after_a_day(stage: Stage) -> None:
    path = stage.directory / "attempts" / ".00002-003.end.json.0123abcd-1-1-0123456789ab.tmp"
    path.write_text("{")
    assert garbage_names(stage).keys() == {"00002-001"}
    yesterday = path.stat().st_mtime - 90_000
    os.utime(path, (yesterday, yesterday))
    assert garbage_names(stage).keys() == {"00002-001", path.name}


def test_files_of_other_programs_are_left_alone(stage: Stage) -> None:
    for folder in ("attempts", "data"):
        for name in ("Thumbs.db", "00000-001.end (copy).json", "desktop.ini"):
            (stage.directory / folder / name).write_text("foreign")
    assert garbage_names(stage).keys() == {"00002-001"}
    assert not list(verify_stage(stage.directory))
    assert run(stage.directory.parent, Fake()).manifest is not None


def test_a_run_without_its_garbage_is_sound_and_goes_on(stage: Stage) -> None:
    run_dir = stage.directory.parents[1]
    for found in list(find_garbage(run_dir)):
        remove(found.path)
    assert not list(find_garbage(run_dir))
    assert not list(verify_stage(stage.directory))
    outcome = run(stage.directory.parent, Fake())
    assert outcome.manifest is not None
    assert outcome.num_run == 1
    assert not list(verify_stage(stage.directory))
