"""``sekd distill`` in several processes: the same training, and one of them speaks and writes."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from sekd.cli import main

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_SYNC_MODULE_STATES": "true",
}
"""What ``accelerate launch --use_fsdp`` leaves in the environment."""


def write_config(world: Path, run_dir: Path) -> Path:
    """Six steps of four micro-batches of two, some of which lack replayed sequences."""
    content = yaml.safe_load((world / "config.yaml").read_text("utf-8"))
    content["run_dir"] = str(run_dir)
    content["elicit"]["runtime"] = {"batch_size": 5, "shard_size": 10}
    content["distill"] |= {"epochs": 1.0, "learning_rate": 0.001, "replay": 0.3}
    content["distill"]["runtime"] |= {"batch_size": 2, "logging_steps": 1, "save_steps": 4}
    path = run_dir.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def alone(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    run_dir = tmp_path_factory.mktemp("distilled") / "alone"
    config = write_config(world, run_dir)
    for command in ("elicit", "distill"):
        result = CliRunner().invoke(main, [command, str(config)])
        assert result.exit_code == 0, result.output
    return run_dir


def launch(world: Path, alone: Path, run_dir: Path, *program: str, **environment: str) -> list[str]:
    """Distil the same signals in two processes; returns what is said on standard error."""
    if not run_dir.exists():
        shutil.copytree(alone, run_dir, ignore=shutil.ignore_patterns("distill*", "sekd.log"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    config = write_config(world, run_dir)
    done = subprocess.run(
        [*command, *program, "distill", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"adapter: {folder(run_dir)}\n"
    return done.stderr.splitlines()


def folder(run_dir: Path) -> Path:
    (found,) = run_dir.glob("distill/*/adapter")
    return found


def assert_same(found: Path, expected: Path) -> None:
    """Every figure of every step, and the weights, to 1e-4."""

    def curves(run_dir: Path) -> list[dict[str, float]]:
        with (folder(run_dir) / "curves.csv").open(newline="") as file:
            return [
                {name: float(value or -1) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]

    rows = curves(found)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "hard", "format", "soft", "feature", "replay"} < rows[0].keys()
    for row, other in zip(rows, curves(expected), strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-4)
    weights, others = (
        load_file(folder(run_dir) / "adapter_model.safetensors") for run_dir in (found, expected)
    )
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-4, atol=1e-4)
    learned = [tensor.abs().max() for name, tensor in others.items() if "lora_B" in name]
    assert min(learned) > 1e-3  # ten times what is let pass


def test_two_processes_train_what_one_does(world: Path, alone: Path, tmp_path: Path) -> None:
    said = launch(world, alone, tmp_path / "two", "-m", "sekd")
    assert_same(tmp_path / "two", alone)
    for step in range(1, 7):
        assert sum(line.startswith(f"distill: step {step}/6") for line in said) == 1
    assert (tmp_path / "two" / "sekd.log").read_text().count("distill: step 1/6") == 1


def test_weights_that_are_sharded_train_the_same(world: Path, alone: Path, tmp_path: Path) -> None:
    """Also where the training goes on from a checkpoint; the adapter is a whole one."""
    run_dir = tmp_path / "sharded"
    program = str(Path(__file__).with_name("fsdp_on_cpu.py"))
    launch(world, alone, run_dir, program, **FSDP)
    assert_same(run_dir, alone)
    checkpoints = folder(run_dir).with_name("checkpoints")
    assert (checkpoints / "checkpoint-4" / "optimizer_0").is_dir()  # it was sharded indeed
    shutil.rmtree(checkpoints / "checkpoint-6")
    shutil.rmtree(folder(run_dir))
    said = launch(world, alone, run_dir, program, **FSDP)
    assert [line[:17] for line in said if line.startswith("distill")] == [
        "distill: step 5/6",
        "distill: step 6/6",
    ]
    assert_same(run_dir, alone)


@pytest.mark.parametrize("command", ["elicit", "evaluate", "sweep", "rounds"])
def test_other_commands_refuse_to_run_several_times_at_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = write_config(world, tmp_path / "run")
    result = CliRunner().invoke(main, [command, str(config)])
    assert result.exit_code == 2
    assert (
        result.output == f"sekd: sekd {command} runs in one process; torchrun is for sekd distill\n"
    )
