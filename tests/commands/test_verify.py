"""``sekd verify`` names what is damaged."""

from __future__ import annotations

from pathlib import Path

from command_line import sekd
from fake_stage import run_fake_stage, status_of
from fakes import Fake


def test_verify_names_what_is_damaged(tmp_path: Path) -> None:
    stage = run_fake_stage(tmp_path, Fake())
    assert sekd("verify", tmp_path).exit_code == 0
    path = next(stage.directory.glob("data/00002-*/notes.txt"))
    path.write_text("shard 3\n")
    result = sekd("verify", tmp_path)
    assert result.exit_code == 3
    assert f"{path}: not the bytes that were committed" in result.output
    assert status_of(tmp_path)[1]["shards"] == {"done": 3, "damaged": 1}
    run_fake_stage(tmp_path, Fake())
    assert sekd("verify", tmp_path).exit_code == 0
