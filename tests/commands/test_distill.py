"""``sekd distill`` as a user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from command_line import sekd
from safetensors.torch import load_file

TRUTH = [
    *("--set", "distill.labels=truth"),
    *("--set", "distill.losses={soft: 0, feature: 0}"),
]


@pytest.fixture(scope="module")
def elicited(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose run has been through ``sekd elicit``."""
    folder = tmp_path_factory.mktemp("distill")
    content = yaml.safe_load((world / "config.yaml").read_text("utf-8"))
    content["run_dir"] = str(folder / "run")
    content["distill"] |= {"epochs": 1.0, "global_batch": 8}
    content["distill"]["runtime"] = {"batch_size": 4, "logging_steps": 1}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    result = sekd("elicit", path)
    assert result.exit_code == 0, result.output
    return path


def test_the_baseline_of_labelled_images(elicited: Path) -> None:
    """From the truth alone: another adapter than the teacher's, beside it, and its card says so."""
    adapters = []
    for labels in ([], TRUTH):
        result = sekd("distill", elicited, "--json", *labels)
        assert result.exit_code == 0, result.output
        adapters.append(Path(json.loads(result.stdout.splitlines()[-1])["adapter"]))
    ours, baseline = adapters
    assert ours != baseline
    weights, others = (load_file(each / "adapter_model.safetensors") for each in adapters)
    assert weights.keys() == others.keys()
    assert any((weights[name] != others[name]).any() for name in weights if "lora_B" in name)
    card = (baseline / "README.md").read_text("utf-8")
    assert "labels: truth" in card
    assert "No human label was trained on" not in card
    assert "| hard |" in card
    assert "| soft |" not in card
    assert sekd("distill", elicited, *TRUTH).stdout.strip() == f"adapter: {baseline}"


def test_the_baseline_is_of_labels_alone(elicited: Path) -> None:
    result = sekd("distill", elicited, "--set", "distill.labels=truth")
    assert result.exit_code == 2
    assert "set losses.soft and losses.feature to 0" in result.output
    assert len(result.stderr.splitlines()) == 1


def test_the_baseline_of_unlabelled_images_names_the_first(elicited: Path, tmp_path: Path) -> None:
    """A table without labels, descended by the teacher: no truth is known to learn from."""
    content = yaml.safe_load(elicited.read_text("utf-8"))
    images = sorted(Path(content["data"]["train"]["images"]).glob("*/*"))[:3]
    for number, image in enumerate(images):
        shutil.copy(image, tmp_path / f"{number}{image.suffix}")
    rows = "".join(f"{number}{image.suffix}\n" for number, image in enumerate(images))
    (tmp_path / "table.csv").write_text(f"image\n{rows}", encoding="utf-8")
    train = content["data"]["train"]
    del train["images"]
    train |= {"table": str(tmp_path / "table.csv"), "options": "children"}
    content["run_dir"] = str(tmp_path / "run")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert sekd("elicit", config).exit_code == 0
    result = sekd("distill", config, *TRUTH)
    assert result.exit_code != 0
    assert "distill.labels is truth, but its true node is None, which is no option" in result.output


def test_of_two_at_once_the_second_refuses_and_the_first_can_be_stopped(elicited: Path) -> None:
    long = ("--set", "distill.epochs=300.0", "--set", "distill.runtime.save_steps=1")
    command = [sys.executable, "-m", "sekd", "distill", str(elicited), *long]
    run = elicited.parent / "run"
    known = set(run.glob("distill/*/checkpoints/*"))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        while first.poll() is None and not set(run.glob("distill/*/checkpoints/*")) - known:
            time.sleep(0.1)
        second = sekd("distill", elicited, *long)
        first.terminate()
        _, said = first.communicate()
    assert second.exit_code == 2
    assert f"process {first.pid} of " in second.stderr
    assert "trains there; wait until it has ended, or stop it" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert first.returncode == 143
    assert "stopped by SIGTERM; what is done stays done" in said.splitlines()[-1]
