"""What people and scripts see of a run: sekd status, verify and gc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner, Result
from fakes import Fake

from sekd.cli import main
from sekd.pipeline.plan import Plan
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage

IDS = [f"sample {i}" for i in range(8)]


def sekd(*arguments: str | Path) -> Result:
    return CliRunner(catch_exceptions=False).invoke(main, [*map(str, arguments)])


def work(run: Path, fake: Fake, *, spec: int = 1, max_attempts: int = 1) -> Stage:
    stage = Stage.open(run / "answers", {"spec": {"seed": spec}}, lambda: Plan.split(IDS, 2))
    run_stage(stage, fake, max_attempts=max_attempts)
    return stage


def status(run: Path) -> tuple[int, dict[str, Any]]:
    result = sekd("status", run, "--json")
    (stage,) = json.loads(result.output)
    return result.exit_code, stage


def test_status_of_a_run_from_nothing_to_the_end(tmp_path: Path) -> None:
    Stage.open(tmp_path / "answers", {"spec": {"seed": 1}}, lambda: Plan.split(IDS, 2))
    code, stage = status(tmp_path)
    assert (code, stage["shards"], stage["num_planned"]) == (1, {"pending": 4}, 8)
    assert (stage["rate"], stage["seconds_left"]) == (None, None)

    work(tmp_path, Fake({2: "fail"}, pause=0.01))
    code, stage = status(tmp_path)
    assert (code, stage["shards"]) == (3, {"done": 3, "failed": 1})
    assert (stage["num_done"], stage["num_quarantined"]) == (3, 3)
    assert stage["seconds_left"] == pytest.approx(2 / stage["rate"])
    (error,) = stage["errors"]
    assert error["error"] == "ShardError: no luck"
    assert "no luck" in Path(error["log"]).read_text("utf-8")

    work(tmp_path, Fake(), max_attempts=2)
    code, stage = status(tmp_path)
    assert (code, stage["shards"], stage["errors"]) == (0, {"done": 4}, [])


def test_status_for_people(tmp_path: Path) -> None:
    stage = work(tmp_path, Fake({0: "fail", 1: "fail", 2: "fail", 3: "fail"}))
    brief = sekd("status", tmp_path).output
    assert "answers: 0 done and 0 quarantined of 8 samples; shards: 4 failed" in brief
    assert "and 1 more: sekd status --failed" in brief
    full = sekd("status", tmp_path, "--failed").output
    for shard in range(4):
        log = stage.directory / "logs" / f"0000{shard}-001.jsonl"
        assert f"shard {shard}: ShardError: no luck (attempt 1, log {log})" in full
    work(tmp_path, Fake(), max_attempts=2)
    assert "sample 1: blurred" in sekd("status", tmp_path, "--failed").output


def test_status_says_what_is_different(tmp_path: Path) -> None:
    work(tmp_path, Fake())
    work(tmp_path, Fake(), spec=2)
    result = sekd("status", tmp_path)
    assert result.exit_code == 0
    assert "differs from the directory before it in spec.seed: 1 -> 2" in result.output


@pytest.mark.parametrize("command", ["status", "verify", "gc"])
def test_no_run_is_one_line(tmp_path: Path, command: str) -> None:
    result = sekd(command, tmp_path / "nothing")
    assert result.exit_code == 2
    assert result.output == f"sekd: {tmp_path}/nothing: no run there; give a config's run_dir\n"


def test_verify_names_what_is_damaged(tmp_path: Path) -> None:
    stage = work(tmp_path, Fake())
    assert sekd("verify", tmp_path).exit_code == 0
    path = next(stage.directory.glob("data/00002-*/notes.txt"))
    path.write_text("shard 3\n")
    result = sekd("verify", tmp_path)
    assert result.exit_code == 3
    assert f"{path}: not the bytes that were committed" in result.output
    assert status(tmp_path)[1]["shards"] == {"done": 3, "damaged": 1}
    work(tmp_path, Fake())
    assert sekd("verify", tmp_path).exit_code == 0


def test_gc_says_what_it_frees_and_frees_it(tmp_path: Path) -> None:
    stage = work(tmp_path, Fake({2: "fail"}))
    kept = sorted(stage.directory.glob("data/*/*"))
    (garbage,) = stage.directory.glob("data/00002-*")
    dry = sekd("gc", tmp_path, "--dry-run")
    assert str(garbage) in dry.output
    assert garbage.exists()
    real = sekd("gc", tmp_path)
    assert real.output == dry.output
    assert [path for path in kept if path.exists()] == [
        path for path in kept if path.parent != garbage
    ]
    assert "0 files and folders, 0 bytes" in sekd("gc", tmp_path).output


def test_peers_open_the_shards(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the paths of the manifest, without a line of sekd."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    import datasets

    assert sekd("elicit", config_file).exit_code == 0
    run = config_file.parent / "run"
    (manifest,) = run.glob("answers/*/manifest.json")
    files = [
        str(manifest.parent / file["path"])
        for shard in json.loads(manifest.read_text("utf-8"))["shards"]
        for file in shard["files"]
        if file["role"] == "answers"
    ]
    rows = datasets.load_dataset("parquet", data_files=files, split="train")
    frame = pl.read_parquet(files)
    table = duckdb.sql(f"select * from read_parquet({files})")
    assert len(rows) == len(frame) == len(table) == 30 * 4
    assert rows.column_names == frame.columns == table.columns
    first = frame.row(0, named=True)
    assert rows[0] == first
    assert dict(zip(table.columns, table.fetchall()[0], strict=True)) == first
    assert first["answer"] in first["options"]
    assert first["option_logprobs"][first["options"].index(first["answer"])] == max(
        first["option_logprobs"]
    )
