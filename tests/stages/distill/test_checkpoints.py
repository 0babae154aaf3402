"""Which checkpoint a training resumes from."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sekd.errors import ShardError
from sekd.stages.distill.checkpoints import (
    TrainingInputs,
    checkpoint_paths,
    last_checkpoint,
    record_checkpoint,
)

INPUTS = TrainingInputs({"states": "f00d"})


def write_checkpoint(directory: Path, step: int, inputs: TrainingInputs | None = INPUTS) -> Path:
    folder = directory / f"checkpoint-{step}"
    folder.mkdir()
    state = {"global_step": step, "max_steps": 10, "log_history": [{"step": step, "loss": 1.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state, indent=2))
    (folder / "optimizer.pt").write_bytes(bytes(range(100)))
    if inputs is not None:
        record_checkpoint(folder, inputs)
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_last_checkpoint_is_the_one_with_the_most_steps(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere", INPUTS) is None
    for step in (10, 2, 8):
        write_checkpoint(tmp_path, step)
    checkpoint = last_checkpoint(tmp_path, INPUTS)
    assert checkpoint is not None
    assert checkpoint.path.name == "checkpoint-10"
    assert checkpoint.is_final
    assert checkpoint.history == [{"step": 10, "loss": 1.0}]


def test_two_checkpoints_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[tuple[str, int]] = []

    def remove_tree(path: Path) -> None:  # as if the process were killed before it begins
        removed.append((path.name, len(checkpoint_paths(tmp_path))))

    monkeypatch.setattr(shutil, "rmtree", remove_tree)
    for step in (2, 8, 10):
        write_checkpoint(tmp_path, step)
    assert [path.name for path in checkpoint_paths(tmp_path)] == ["checkpoint-10", "checkpoint-8"]
    ((name, num_left),) = removed
    assert name.startswith(".checkpoint-2.")
    assert num_left == 2  # nobody meets half of the third one


@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])]
)
@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt", "checkpoint.record.json"])
def test_the_one_before_counts_where_a_file_is_damaged(
    tmp_path: Path, name: str, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, 2)
    damage(write_checkpoint(tmp_path, 4) / name)
    with caplog.at_level(logging.WARNING, logger="sekd"):
        checkpoint = last_checkpoint(tmp_path, INPUTS)
    assert checkpoint is not None
    assert checkpoint.path.name == "checkpoint-2"
    assert not checkpoint.is_final
    assert not (tmp_path / "checkpoint-4").exists()
    (line,) = caplog.messages
    assert str(tmp_path / "checkpoint-4") in line
    assert "the checkpoint before it counts" in line


def test_one_that_a_killed_process_left_is_not_complete(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2, inputs=None)
    assert last_checkpoint(tmp_path, INPUTS) is None


def test_one_of_other_inputs_does_not_count(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2, TrainingInputs({"states": "bad"}))
    assert last_checkpoint(tmp_path, INPUTS) is None


def test_what_was_trained_on_a_changed_file_is_not_completed(tmp_path: Path) -> None:
    def changed() -> None:
        raise ShardError("states.safetensors: not the file that was committed")

    with pytest.raises(ShardError, match="not the file"):
        write_checkpoint(tmp_path, 2, TrainingInputs({}, check=changed))
    assert last_checkpoint(tmp_path, TrainingInputs()) is None
