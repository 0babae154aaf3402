"""A training that is killed several times ends with the adapter of an uninterrupted one."""

from __future__ import annotations

import multiprocessing
import runpy
import shutil
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sekd.cli import main

KILLED_AT = (
    "checkpoints/checkpoint-2/adapter_model.safetensors",  # no checkpoint is complete
    "checkpoints/checkpoint-4/optimizer.pt",
    "checkpoints/checkpoint-6/checkpoint.record.json",  # between two epochs
    "checkpoints/checkpoint-8/trainer_state.json",  # all is there but its record
    "checkpoints/checkpoint-10/scheduler.pt",
    "checkpoints/checkpoint-12/checkpoint.record.json",  # trained, but without an adapter directory
)
"""Files of the run. The process is killed as soon as it has started to write them."""


def start(monkeypatch: pytest.MonkeyPatch, config: Path) -> BaseProcess:
    """Run ``python -m sekd distill`` in a process that has imported the slow libraries already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sekd.stages.distill.train"])
    monkeypatch.setattr(sys, "argv", ["sekd", "distill", str(config)])
    process = context.Process(
        target=runpy.run_module, args=("sekd",), kwargs={"run_name": "__main__"}
    )
    process.start()
    return process


def kill_at(process: BaseProcess, path: Path) -> None:
    while not path.exists():
        assert process.is_alive(), f"the process ended before it wrote {path}"
        time.sleep(0.001)
    process.kill()
    process.join()


def with_run_dir(config_file: Path, run_dir: Path) -> Path:
    content = yaml.safe_load(config_file.read_text())
    content["run_dir"] = str(run_dir)
    content["distill"] |= {"epochs": 2.0, "replay": 0.3}
    content["distill"]["lora"] |= {"dropout": 0.2}
    path = config_file.with_name(f"{run_dir.name}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_killed_training_gives_the_adapter_of_an_uninterrupted_one(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sekd(command: str, config: Path) -> None:
        result = CliRunner().invoke(main, [command, str(config)])
        assert result.exit_code == 0, result.output

    uninterrupted = with_run_dir(config_file, tmp_path / "uninterrupted")
    killed = with_run_dir(config_file, tmp_path / "killed")
    sekd("elicit", uninterrupted)
    shutil.copytree(tmp_path / "uninterrupted", tmp_path / "killed")
    sekd("distill", uninterrupted)
    (expected,) = tmp_path.glob("uninterrupted/distill/*")
    resumed = tmp_path / "killed" / "distill" / expected.name
    for name in KILLED_AT:
        kill_at(start(monkeypatch, killed), resumed / name)
    assert not (resumed / "adapter").exists()
    log = tmp_path / "killed" / "sekd.log"
    before = log.read_text()
    sekd("distill", killed)
    assert "distill: step" not in log.read_text().removeprefix(before)  # nothing was left to train
    for name in ("adapter/adapter_model.safetensors", "adapter/curves.csv", "adapter/README.md"):
        assert (resumed / name).read_bytes() == (expected / name).read_bytes(), name
    rows = (resumed / "adapter/curves.csv").read_text().splitlines()
    steps = [row.split(",")[0] for row in rows]
    assert steps == ["step", *map(str, range(1, 13))]
