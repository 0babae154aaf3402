"""sekd rounds: the student of one teaches the next, nothing is done twice, noise ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from sekd.analysis.rounds import Gain
from sekd.cli import main
from sekd.data.toyworld import write_world
from sekd.models.adapters import adapter_identity
from sekd.pipeline.stage import newest_first
from sekd.stages import rounds as rounds_module

SMALL: dict[str, Any] = {
    "rounds": 2,
    "distill": {
        "epochs": 0.5,
        "global_batch": 8,
        "learning_rate": 0.005,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "runtime": {"batch_size": 4, "logging_steps": 1},
    },
    "evaluate": {
        "datasets": ["seen", "unseen"],
        "paradigms": ["joint", "conditioned"],
        "controls": [],
        "limit": 4,
        "num_bootstrap": 10,
    },
}


def run(name: str, config: Path, *settings: str, options: tuple[str, ...] = ()) -> Result:
    pairs = [part for setting in settings for part in ("--set", setting)]
    return CliRunner().invoke(main, [name, str(config), *pairs, *options])


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    write_world(tmp_path / "world", num_train=16, num_test=4, seed=0)
    path = tmp_path / "world" / "config.yaml"
    content = yaml.safe_load(path.read_text("utf-8")) | SMALL
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def ends(run_dir: Path) -> dict[str, bytes]:
    """Content of every attempt's end and of every adapter, by path."""
    paths = [*run_dir.rglob("attempts/*.end.json"), *run_dir.rglob("adapter_model.safetensors")]
    return {str(path): path.read_bytes() for path in paths}


def test_two_rounds(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = config_path.parents[1]
    assert run("elicit", config_path).exit_code == 0
    before = ends(run_dir)
    monkeypatch.setattr(Gain, "is_noise", False)
    compared: list[tuple[Any, Any, str]] = []
    measure_gain = rounds_module.measure_gain

    def spy(after: Any, before: Any, name: str, *settings: Any) -> Gain:
        compared.append((after, before, name))
        return measure_gain(after, before, name, *settings)

    monkeypatch.setattr(rounds_module, "measure_gain", spy)
    result = run("rounds", config_path)
    assert result.exit_code == 0, result.output
    (first_after, _, base), (_, second_before, student) = compared
    assert (base, student) == ("base", "student")
    assert second_before is first_after
    after = ends(run_dir)
    assert before.items() <= after.items()  # what the single command made is the first round's

    first, second = run_dir, run_dir / "rounds" / "2"
    (one,), (two,) = first.glob("distill/*/adapter"), second.glob("distill/*/adapter")
    (((_, taught_by),), ((_, begun),)) = (
        newest_first(second / "answers"),
        newest_first(second / "distill"),
    )
    assert begun["spec"]["distill"]["initial_adapter"] == adapter_identity(one, "")
    assert taught_by["spec"]["elicit"]["adapter"] == begun["spec"]["distill"]["initial_adapter"]
    assert (one / "adapter_model.safetensors").read_bytes() != (
        two / "adapter_model.safetensors"
    ).read_bytes()
    base = list(run_dir.glob("predictions/*-base-*/*"))
    assert len(base) == len(list(run_dir.rglob("*-base-*/*/plan-00000.json"))) == 4  # shared
    assert len(list(run_dir.glob("predictions/*-student-*/*"))) == 8

    content = json.loads((run_dir / "rounds" / "rounds.json").read_text())
    assert [each["round"] for each in content["rounds"]] == [0, 1, 2]
    assert [each["adapter"] for each in content["rounds"]] == [None, str(one), str(two)]
    assert (content["best"], content["adapter"]) == (2, str(two))
    for place, each in ((first, content["rounds"][1]), (second, content["rounds"][2])):
        rows = json.loads((place / "metrics.json").read_text())["rows"]
        for paradigm in ("joint", "conditioned"):
            assert each[paradigm] == {
                row["dataset"]: row["hca"]
                for row in rows
                if (row["model"], row["paradigm"]) == ("student", paradigm)
            }
    for old, new in zip(content["rounds"], content["rounds"][1:], strict=False):
        for dataset, gain in new["gain"]["datasets"].items():
            difference = new["joint"][dataset]["value"] - old["joint"][dataset]["value"]
            assert gain["value"] == pytest.approx(difference)
    assert "all images" in (run_dir / "rounds" / "rounds.md").read_text()
    assert run("report", second).exit_code == 0

    again = run("rounds", config_path, options=("--json",))
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout.splitlines()[-1]) == content
    assert ends(run_dir) == after


def test_rounds_by_open_naming_alone_of_images_without_labels(
    config_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student names what its teacher descended to, and descends for the next student."""
    monkeypatch.setattr(Gain, "is_noise", False)
    settings = ("data.train.options=children", "distill.formats=[open]")
    result = run("rounds", config_path, *settings, "evaluate.paradigms=[open]")
    assert result.exit_code == 0, result.output
    run_dir = config_path.parents[1]
    second = run_dir / "rounds" / "2"
    content = json.loads((run_dir / "rounds" / "rounds.json").read_text())
    for each in content["rounds"]:
        assert set(each["open"]) == {"seen", "unseen"}
        assert (each["conditioned"], "joint" in each) == ({}, False)
    rows = json.loads((second / "metrics.json").read_text())["rows"]
    assert {row["paradigm"] for row in rows} == {"open"}
    (one,) = run_dir.glob("distill/*/adapter")
    for folder, teacher in ((run_dir, None), (second, adapter_identity(one, ""))):
        (((_, descended),),) = (newest_first(folder / "descents" / "train"),)
        assert descended["spec"]["elicit"].get("adapter") == teacher
    assert run("report", second).exit_code == 0


def test_noise_ends_it(config_path: Path) -> None:
    """After steps of no length the student answers as the base does."""
    result = run("rounds", config_path, "rounds=3", "distill.learning_rate=1e-12")
    assert result.exit_code == 0, result.output
    assert "stopped: the gain of round 1, 0.0 points (\N{MINUS SIGN}36.9 to +36.9)" in result.output
    assert "adapter: none" in result.output
    assert not (config_path.parents[1] / "rounds" / "2").exists()


def test_nothing_measured_ends_nothing(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gain, "is_noise", True)
    result = run("rounds", config_path, "evaluate.datasets=[]")
    assert result.exit_code == 0, result.output
    assert "round 2 is the last that the config's key rounds asks for" in result.output
    (adapter,) = config_path.parents[1].glob("rounds/2/distill/*/adapter")
    assert f"adapter: {adapter}" in result.output


def test_joint_answers_must_be_measured(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds_module, "run_elicitation", None)
    result = run("rounds", config_path, "evaluate.paradigms=[conditioned]")
    assert result.exit_code == 2
    assert "evaluate.paradigms: joint is not among them" in result.output


def test_a_stage_that_is_not_finished_is_said(
    config_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> object:
        raise OSError("no luck")

    monkeypatch.setattr("sekd.stages.elicit.answers.walk", failing)
    result = run("rounds", config_path, "elicit.runtime.max_attempts=1")
    assert result.exit_code == 1
    assert "--retry-failed" in result.output
