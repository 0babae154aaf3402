"""Garbage: files that no committed record refers to, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Fake

from sekd.io.files import remove, write_atomically
from sekd.pipeline import garbage
from sekd.pipeline.garbage import find_garbage
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.names import attempt_of_data_folder
from sekd.pipeline.runner import Outcome, run_stage
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
    for found in find_garbage(stage.directory):
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


def test_temporary_files_and_unused_plans_are_garbage(stage: Stage) -> None:
    unused = f"plan-00000-{32 * '0'}.parquet"
    (stage.directory / "attempts" / ".00002-003.end.json.0f.tmp").write_text("{")
    (stage.directory / unused).write_text("of a slower runner")
    temporary = ".00002-003.end.json.0f.tmp"
    assert garbage_names(stage).keys() == {
        "00002-001",
        temporary,
        unused,
    }


def test_a_temporary_file_that_grows_is_being_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stage.directory / "attempts" / ".00002-002.end.json.0f.tmp"
    path.write_text("{")
    monkeypatch.setattr(garbage.time, "sleep", lambda seconds: path.write_text('{"shard": 2'))
    assert garbage_names(stage).keys() == {"00002-001"}


def test_a_run_without_its_garbage_is_sound_and_goes_on(stage: Stage) -> None:
    for found in list(find_garbage(stage.directory)):
        remove(found.path)
    assert not list(find_garbage(stage.directory))
    assert not list(verify_stage(stage.directory))
    outcome = run(stage.directory.parent, Fake())
    assert outcome.manifest is not None
    assert outcome.num_run == 1
    assert not list(verify_stage(stage.directory))
