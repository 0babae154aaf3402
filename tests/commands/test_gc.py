"""``sekd gc`` lists what it deletes, and deletes it."""

from __future__ import annotations

from pathlib import Path

from command_line import sekd
from fake_stage import run_fake_stage
from fakes import Fake


def test_gc_says_what_it_frees_and_frees_it(tmp_path: Path) -> None:
    stage = run_fake_stage(tmp_path, Fake({2: "fail"}))
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
