"""sekd calibrate: temperatures beside the adapter, or in the run of a base, and who reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result
from command_line import sekd
from safetensors.numpy import load_file, save_file

from sekd.analysis.results import Evaluation
from sekd.config import load_config
from sekd.data.samples import load_taxonomy
from sekd.errors import ConfigError
from sekd.report import write_report
from sekd.stages.calibrate.files import CalibrationFile, find_calibration

EVALUATE: dict[str, Any] = {
    "datasets": ["seen"],
    "paradigms": ["open", "descent"],
    "controls": [],
    "num_bootstrap": 10,
    "runtime": {"batch_size": 6, "shard_size": 6},
}


@pytest.fixture
def mine(config_file: Path, adapter: Path, tmp_path: Path) -> Path:
    """The config, with an adapter of its own that answers as ``mine``."""
    copy = tmp_path / "copy"
    shutil.copytree(adapter, copy)
    content = yaml.safe_load(config_file.read_text("utf-8"))
    content["evaluate"] = EVALUATE | {"models": {"mine": {"adapter": str(copy)}}}
    config_file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return config_file


def calibrate(config: Path, *options: str) -> Result:
    result = sekd("calibrate", config, "--data", "seen", *options)
    assert result.exit_code == 0, result.output
    return result


def num_attempts(config: Path) -> int:
    run = config.parent / "run"
    return len(list(run.glob("predictions/*/*/attempts/*.end.json")))


def test_a_base_is_calibrated_in_its_run_and_evaluated_with_it(mine: Path) -> None:
    run = mine.parent / "run"
    content = json.loads(calibrate(mine, "--json").stdout)
    assert content["model"] == "base"
    assert content["calibration"] == str(run / "calibration.json")
    assert list(content["fits"]) == ["open", "descent"]
    fit = content["fits"]["open"]
    assert (fit["dataset"], fit["num_images"]) == ("seen", 12)
    assert all(0.05 < level["temperature"] < 20 for level in fit["levels"].values())
    done = num_attempts(mine)
    assert "whole path" not in calibrate(mine).stdout
    assert num_attempts(mine) == done
    for _ in range(2):  # the second one shows that a calibration evaluates nothing again
        assert sekd("evaluate", mine).exit_code == 0
    evaluation = Evaluation.read(run)
    base, other = (evaluation.get("seen", name, "open") for name in ("base", "mine"))
    assert base is not None
    assert other is not None
    calibrated = base.diagnosis.calibrated
    assert calibrated is not None
    assert other.diagnosis.calibrated is None
    assert calibrated.scaling.is_same_data
    expected = {int(level): entry["temperature"] for level, entry in fit["levels"].items()}
    assert calibrated.scaling.temperatures == expected
    page = write_report(run).page.read_text("utf-8")
    assert "base, open on seen, calibrated on seen, these images" in page
    assert "mine, open on seen, uncalibrated" in page
    coverage = (run / "report" / "coverage.csv").read_text("utf-8")
    assert "calibrated on seen, these images" in coverage
    assert sekd("verify", run).exit_code == 0


def test_an_adapter_keeps_its_calibration_and_its_identity(mine: Path) -> None:
    config = load_config(mine)
    folder = config.evaluate.models["mine"].adapter
    assert folder is not None
    before = folder / "adapter_model.safetensors"
    calibrate(mine, "--model", "mine", "--set", "evaluate.paradigms=[open]")
    done = num_attempts(mine)
    found = find_calibration(config.model, folder)
    assert found is not None
    taxonomy = load_taxonomy(config.data["seen"])
    temperatures = found.temperatures("open", taxonomy)
    assert temperatures is not None
    assert set(temperatures) == {1, 2, 3, 4}
    assert found.temperatures("open", load_taxonomy(config.data["unseen"])) is None
    calibrate(mine, "--model", "mine", "--set", "evaluate.paradigms=[joint]")
    again = CalibrationFile.read(folder)
    assert again is not None
    assert set(again.paradigms) == {"open", "descent"}
    assert again.paradigms["open"] == found.paradigms["open"]
    calibrate(mine, "--model", "mine", "--set", "evaluate.paradigms=[open]")
    assert num_attempts(mine) == done
    weights = load_file(before)
    save_file({name: tensor * np.float32(1.01) for name, tensor in weights.items()}, before)
    with pytest.raises(ConfigError, match=r"fitted for other weights.*run sekd calibrate"):
        find_calibration(config.model, folder)


def test_a_changed_calibration_is_refused(mine: Path) -> None:
    calibrate(mine, "--set", "evaluate.paradigms=[open]")
    run = mine.parent / "run"
    path = run / "calibration.json"
    path.write_text(path.read_text("utf-8").replace('"temperature": ', '"temperature": 1'), "utf-8")
    with pytest.raises(ConfigError, match="not what was written; run sekd calibrate again"):
        CalibrationFile.read(run)
    assert sekd("verify", run).exit_code == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--data", "seen", "--model", "student"), "no finished student for this config"),
        (("--data", "unlabelled"), "no image of data.unlabelled has a label"),
    ],
)
def test_what_cannot_be_calibrated_is_said(
    mine: Path, options: tuple[str, ...], message: str
) -> None:
    content = yaml.safe_load(mine.read_text("utf-8"))
    seen = content["data"]["seen"]
    names = sorted(map(str, Path(seen["images"]).glob("*/*")))
    (mine.parent / "list.csv").write_text("\n".join(["image", *names]), encoding="utf-8")
    del seen["images"]
    content["data"]["unlabelled"] = {**seen, "table": str(mine.parent / "list.csv")}
    content["data"]["seen"] = load_config(mine).data["seen"].model_dump(mode="json")
    mine.write_text(yaml.safe_dump(content), encoding="utf-8")
    result = sekd("calibrate", mine, *options)
    assert result.exit_code == 2
    assert message in result.output
