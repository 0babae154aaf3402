"""``sekd distill`` in several processes: the same training, and only the main process writes."""

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
"""The environment variables that ``accelerate launch --use_fsdp`` sets."""


def write_config(world: Path, run_dir: Path) -> Path:
    """Write a config of six steps of four micro-batches of two sequences.

    Some of the micro-batches have no replayed sequences.
    """
    content = yaml.safe_load((world / "config.yaml").read_text("utf-8"))
    content["run_dir"] = str(run_dir)
    content["elicit"]["runtime"] = {"batch_size": 5, "shard_size": 10}
    content["distill"] |= {"epochs": 1.0, "learning_rate": 0.001, "replay": 0.3}
    content["distill"]["runtime"] |= {"batch_size": 2, "logging_steps": 1, "save_steps": 4}
    path = run_dir.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def single(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run in one process; return the run directory."""
    run_dir = tmp_path_factory.mktemp("distilled") / "single"
    config = write_config(world, run_dir)
    for command in ("elicit", "distill"):
        result = CliRunner().invoke(main, [command, str(config)])
        assert result.exit_code == 0, result.output
    return run_dir


def launch(
    world: Path, single: Path, run_dir: Path, *program: str, **environment: str
) -> list[str]:
    """Distill the same signals in two processes; return the lines of standard error."""
    if not run_dir.exists():
        shutil.copytree(single, run_dir, ignore=shutil.ignore_patterns("distill*", "sekd.log"))
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
    assert done.stdout == f"adapter: {adapter_in(run_dir)}\n"
    return done.stderr.splitlines()


def adapter_in(run_dir: Path) -> Path:
    (adapter,) = run_dir.glob("distill/*/adapter")
    return adapter


def assert_same_training(run_dir: Path, expected_dir: Path) -> None:
    """Compare all curves and the adapter's weights of two runs, to 1e-4.

    The gradient's norm of the last step may differ by 1e-3: several processes group the sequences
    of a global batch in other micro-batches, so each update is rounded otherwise.
    """

    def curves(run_dir: Path) -> list[dict[str, float]]:
        with (adapter_in(run_dir) / "curves.csv").open(newline="") as file:
            return [
                {name: float(value or -1) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]

    rows = curves(run_dir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "hard", "format", "soft", "feature", "replay"} < rows[0].keys()
    for row, other in zip(rows, curves(expected_dir), strict=True):
        tolerance = 1e-3 if row["step"] == 6 else 1e-4
        assert row.pop("grad_norm") == pytest.approx(other.pop("grad_norm"), rel=tolerance)
        assert row == pytest.approx(other, rel=1e-4, abs=1e-4)
    weights = load_file(adapter_in(run_dir) / "adapter_model.safetensors")
    expected = load_file(adapter_in(expected_dir) / "adapter_model.safetensors")
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-4)
    updates = [tensor.abs().max() for name, tensor in expected.items() if "lora_B" in name]
    assert min(updates) > 1e-3  # ten times the tolerance


def test_two_processes_train_the_same_as_one(world: Path, single: Path, tmp_path: Path) -> None:
    """No thread of gloo outlives the training: it could abort the interpreter at its end."""
    program = str(Path(__file__).with_name("threads_at_exit.py"))
    stderr = launch(world, single, tmp_path / "two", program)
    assert_same_training(tmp_path / "two", single)
    threads = [line for line in stderr if line.startswith("threads at exit: ")]
    assert len(threads) == 2
    assert not any("gloo" in line for line in threads), threads
    for step in range(1, 7):
        assert sum(line.startswith(f"distill: step {step}/6") for line in stderr) == 1
    assert (tmp_path / "two" / "sekd.log").read_text().count("distill: step 1/6") == 1


def test_sharded_weights_train_the_same(world: Path, single: Path, tmp_path: Path) -> None:
    """A resumed training gives the same, too, and the adapter has its full weights."""
    run_dir = tmp_path / "sharded"
    program = str(Path(__file__).with_name("fsdp_on_cpu.py"))
    launch(world, single, run_dir, program, **FSDP)
    assert_same_training(run_dir, single)
    checkpoints = adapter_in(run_dir).with_name("checkpoints")
    assert (checkpoints / "checkpoint-4" / "optimizer_0").is_dir()  # the weights were sharded
    shutil.rmtree(checkpoints / "checkpoint-6")
    shutil.rmtree(adapter_in(run_dir))
    stderr = launch(world, single, run_dir, program, **FSDP)
    assert [line[:17] for line in stderr if line.startswith("distill")] == [
        "distill: step 5/6",
        "distill: step 6/6",
    ]
    assert_same_training(run_dir, single)


@pytest.mark.parametrize("command", ["elicit", "evaluate", "sweep", "rounds"])
def test_other_commands_refuse_to_run_in_several_processes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = write_config(world, tmp_path / "run")
    result = CliRunner().invoke(main, [command, str(config)])
    assert result.exit_code == 2
    assert (
        result.output == f"sekd: sekd {command} runs in one process; torchrun is for sekd distill\n"
    )
