"""The status of a run: what is done, what is left, and what failed, from its records alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import Fake

from sekd.io.records import DamagedFileError
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage, open_directory
from sekd.pipeline.status import run_status, stage_directories, stage_roots

IDS = [f"sample {i}" for i in range(12)]  # three shards of four


def open_stage(root: Path, fields: dict[str, object] | None = None) -> Stage:
    return Stage.open(root, fields or {"spec": 1}, SampleInputs.of_ids(IDS, 4))


def test_a_stage_stands_where_its_records_say(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "answers")
    (before,) = run_status(tmp_path)
    assert (before.shards, before.rate, before.seconds_left) == ({"pending": 3}, None, None)
    run_stage(stage, Fake({1: "fail"}), max_attempts=1)
    (status,) = run_status(tmp_path)
    assert status.name == "answers"
    assert status.directory == str(stage.directory)
    assert status.shards == {"done": 2, "failed": 1}
    assert (status.num_planned, status.num_done, status.num_quarantined) == (12, 6, 2)
    assert [sample["sample_id"] for sample in status.quarantined] == [IDS[3], IDS[11]]
    log = stage.directory / "logs" / "00001-001.jsonl"
    assert status.errors == [
        {"shard": 1, "attempt": 1, "error": "ShardError: no luck", "log": str(log)}
    ]
    assert log.is_file()
    assert not status.is_complete
    records = [state.record for state in stage.states() if state.status == "done"]
    assert status.rate == pytest.approx(8 / sum(record["seconds"] for record in records if record))
    assert status.seconds_left == pytest.approx(4 / status.rate)
    run_stage(stage, Fake(), max_attempts=2)
    (after,) = run_status(tmp_path)
    assert after.is_complete
    assert after.seconds_left == 0


def test_a_lost_attempt_is_an_error_without_a_record(tmp_path: Path) -> None:
    open_stage(tmp_path / "states").ledger.begin(2).release()
    (status,) = run_status(tmp_path)
    assert status.shards == {"pending": 2, "lost": 1}
    assert status.errors[0]["error"] == "the process died on it"


def test_the_newest_directory_is_shown_with_its_changes(tmp_path: Path) -> None:
    open_stage(tmp_path / "answers")
    newer = open_stage(tmp_path / "answers", {"spec": 2})
    (status,) = run_status(tmp_path)
    assert status.directory == str(newer.directory)
    assert status.changes == ["spec: 1 -> 2"]


def test_nothing_is_planned_before_the_plan_is_stored(tmp_path: Path) -> None:
    open_directory(tmp_path / "answers", {"spec": 1})
    (status,) = run_status(tmp_path)
    assert (status.shards, status.num_planned) == ({}, 0)


def test_every_cell_of_an_evaluation_is_a_stage(tmp_path: Path) -> None:
    cells = ["predictions/seen-base-joint", "predictions/seen-student-joint"]
    directories = [open_stage(tmp_path / name).directory for name in ("answers", *cells)]
    (tmp_path / "distill" / "0f").mkdir(parents=True)
    names = ["answers", "states", *cells, "predict"]
    assert [name for name, _ in stage_roots(tmp_path)] == names
    assert [directory for _, directory in stage_directories(tmp_path)] == directories
    assert [status.name for status in run_status(tmp_path)] == ["answers", *cells]


def test_a_damaged_plan_record_is_named(tmp_path: Path) -> None:
    path = open_stage(tmp_path / "answers").directory / "plan-00000.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError) as error:
        run_status(tmp_path)
    assert error.value.path == path
