"""Which checkpoint a training resumes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sekd.stages.distill.checkpoints import last_checkpoint


def write_checkpoint(directory: Path, step: int) -> Path:
    folder = directory / f"checkpoint-{step}"
    folder.mkdir()
    state = {"global_step": step, "max_steps": 10, "log_history": [{"step": step, "loss": 1.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state, indent=2))
    return folder


def test_the_last_checkpoint_is_the_one_with_the_most_steps(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
    for step in (10, 2, 8):
        write_checkpoint(tmp_path, step)
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.path.name == "checkpoint-10"
    assert checkpoint.is_final
    assert checkpoint.history == [{"step": 10, "loss": 1.0}]


@pytest.mark.parametrize("num_bytes", [None, 0, 1, 40, -1])
def test_an_incomplete_checkpoint_is_skipped(tmp_path: Path, num_bytes: int | None) -> None:
    write_checkpoint(tmp_path, 2)
    state = write_checkpoint(tmp_path, 4) / "trainer_state.json"
    if num_bytes is None:
        state.unlink()
    else:
        state.write_bytes(state.read_bytes()[:num_bytes])
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.path.name == "checkpoint-2"
    assert not checkpoint.is_final
