"""What people and scripts see of ``sekd status``."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import sekd
from fake_stage import IDS, run_fake_stage, status_of
from fakes import Fake

from sekd.io.artefacts import write_artefact
from sekd.io.folders import publish_folder
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.stage import Stage, open_directory


def test_status_of_a_run_from_nothing_to_the_end(tmp_path: Path) -> None:
    Stage.open(tmp_path / "answers", {"spec": {"seed": 1}}, SampleInputs.of_ids(IDS, 2))
    code, stage = status_of(tmp_path)
    assert (code, stage["shards"], stage["num_planned"]) == (1, {"pending": 4}, 8)
    assert (stage["rate"], stage["seconds_left"]) == (None, None)

    run_fake_stage(tmp_path, Fake({2: "fail"}, pause=0.01))
    code, stage = status_of(tmp_path)
    assert (code, stage["shards"]) == (3, {"done": 3, "failed": 1})
    assert (stage["num_done"], stage["num_quarantined"]) == (3, 3)
    assert stage["seconds_left"] == pytest.approx(2 / stage["rate"])
    (error,) = stage["errors"]
    assert error["error"] == "ShardError: no luck"
    assert "no luck" in Path(error["log"]).read_text("utf-8")

    run_fake_stage(tmp_path, Fake(), max_attempts=2)
    code, stage = status_of(tmp_path)
    assert (code, stage["shards"], stage["errors"]) == (0, {"done": 4}, [])


def test_status_for_people(tmp_path: Path) -> None:
    stage = run_fake_stage(tmp_path, Fake({0: "fail", 1: "fail", 2: "fail", 3: "fail"}))
    brief = sekd("status", tmp_path).output
    assert "answers: 0 done and 0 quarantined of 8 samples; shards: 4 failed" in brief
    assert "and 1 more: sekd status --failed" in brief
    full = sekd("status", tmp_path, "--failed").output
    for shard in range(4):
        log = stage.directory / "logs" / f"0000{shard}-001.jsonl"
        assert f"shard {shard}: ShardError: no luck (attempt 1, log {log})" in full
    run_fake_stage(tmp_path, Fake(), max_attempts=2)
    assert "sample 1: blurred" in sekd("status", tmp_path, "--failed").output


def test_status_says_what_is_different(tmp_path: Path) -> None:
    run_fake_stage(tmp_path, Fake())
    run_fake_stage(tmp_path, Fake(), spec=2)
    result = sekd("status", tmp_path)
    assert result.exit_code == 0
    assert "differs from the directory before it in spec.seed: 1 -> 2" in result.output


@pytest.mark.parametrize("command", ["status", "verify", "gc"])
def test_no_run_is_one_line(tmp_path: Path, command: str) -> None:
    result = sekd(command, tmp_path / "nothing")
    assert result.exit_code == 2
    assert result.output == f"sekd: {tmp_path}/nothing: no run there; give a config's run_dir\n"


def test_a_summary_comes_first_and_finished_cells_are_one_line(tmp_path: Path) -> None:
    for cell in ("birds-base-joint", "birds-base-conditioned", "birds-student-joint"):
        run_fake_stage(tmp_path, Fake(), name=f"predictions/{cell}")
    run_fake_stage(tmp_path, Fake())
    write_artefact(tmp_path / "sweep", "sweep", {"table.md": "|"})
    result = sekd("status", tmp_path)
    first, *others = result.output.splitlines()
    assert first == (
        f"{tmp_path}: 5 of 5 stages are complete, 0 shards failed, 16 samples are quarantined"
    )
    assert [line.split(":")[0] for line in others if line[:1] != " "] == [
        "answers",
        "predictions",
        "sweep",
    ]
    assert "3 cells are complete, with 12 samples done and 12 quarantined" in result.output
    assert "birds-base-joint" in sekd("status", tmp_path, "--failed").output


def test_a_student_in_training_is_not_complete(tmp_path: Path) -> None:
    run_fake_stage(tmp_path, Fake())
    directory = open_directory(tmp_path / "distill", {"spec": 1})
    (directory / "checkpoints" / "checkpoint-20").mkdir(parents=True)
    (directory / "checkpoints" / "checkpoint-100").mkdir()
    result = sekd("status", tmp_path)
    assert result.exit_code == 1
    assert f"distill: in training, checkpoint-100; {directory}" in result.output
    (directory / "adapter").mkdir()
    weights = directory / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(b"weights")
    assert sekd("status", tmp_path).exit_code == 1
    publish_folder(directory, directory, "adapter")
    result = sekd("status", tmp_path)
    assert result.exit_code == 0
    assert f"distill: the student is finished; {directory}" in result.output
    weights.write_bytes(b"Weights")
    result = sekd("status", tmp_path)
    assert result.exit_code == 1
    assert f"distill: {weights}: not what was written; run sekd distill again" in result.output


def test_later_rounds_are_stages_too(tmp_path: Path) -> None:
    run_fake_stage(tmp_path, Fake())
    stage = run_fake_stage(tmp_path / "rounds" / "2", Fake({1: "fail"}))
    write_artefact(tmp_path / "rounds", "rounds", {"rounds.json": "{}"})
    result = sekd("status", tmp_path)
    assert result.exit_code == 3
    assert "rounds/2/answers: 3 done" in result.output
    assert f"rounds: finished; {tmp_path / 'rounds'}" in result.output
    assert sekd("verify", tmp_path).exit_code == 0
    path = next(stage.directory.glob("data/00002-*/notes.txt"))
    path.write_text("shard 3\n")
    assert f"{path}: not the bytes that were committed" in sekd("verify", tmp_path).output
