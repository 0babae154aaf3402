"""``sekd elicit`` leaves shards that other libraries open."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import polars as pl
import pytest
from command_line import sekd


def test_peers_open_the_shards(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the paths of the manifest, without a line of sekd."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    import datasets

    assert sekd("elicit", config_file).exit_code == 0
    run = config_file.parent / "run"
    (manifest,) = run.glob("answers/*/manifest-*.json")
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
