"""sekd sweep: every variant once, what is done stays done, and one that fails stops no other."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from sekd.cli import main
from sekd.data.toyworld import write_world
from sekd.errors import FatalError
from sekd.stages.distill import train as training
from sekd.stages.distill.trainer import DistillTrainer

SMALL = {
    "distill": {
        "epochs": 0.3,
        "global_batch": 8,
        "learning_rate": 0.001,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "runtime": {"batch_size": 4, "logging_steps": 1},
    },
    "evaluate": {"datasets": ["seen"], "limit": 4, "num_bootstrap": 10},
}


def run(command: str, config: Path, *settings: str, options: tuple[str, ...] = ()) -> Result:
    pairs = [part for setting in settings for part in ("--set", setting)]
    return CliRunner().invoke(main, [command, str(config), *pairs, *options])


@pytest.fixture(scope="module")
def elicited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a run with a finished teacher and an evaluated base."""
    directory = tmp_path_factory.mktemp("swept")
    write_world(directory / "world", num_train=16, num_test=4, seed=0)
    path = directory / "world" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text("utf-8")) | SMALL), "utf-8")
    for command in ("elicit", "evaluate"):
        result = run(command, path)
        assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """Losses and seed of every training that is begun."""
    begun: list[tuple[Any, int]] = []
    inner = DistillTrainer.train

    def train(self: DistillTrainer, **kwargs: Any) -> Any:
        begun.append((self._objective._spec.losses, self._objective._spec.seed))
        return inner(self, **kwargs)

    monkeypatch.setattr(DistillTrainer, "train", train)
    return begun


def files(run_dir: Path, pattern: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run_dir.glob(pattern)}


def test_the_papers_ablation_and_its_baselines(
    elicited: Path, trained: list[tuple[Any, int]]
) -> None:
    run_dir = elicited.parents[1]
    own = files(run_dir, "metrics.*") | files(run_dir, "*.parquet")
    result = run("sweep", elicited)
    assert result.exit_code == 0, result.output
    terms = [(w.hard, w.format, w.soft, w.feature, w.text, w.replay) for w, _ in trained]
    assert terms == [
        (1, 1, 0, 0, 0, 2),  # hard
        (1, 1, 1, 0, 0, 2),  # hard_soft
        (1, 1, 1, 1, 0, 2),  # full
        (0, 0, 0, 0, 1, 2),  # text
        (0, 0, 0, 0, 1, 2),  # truth
    ]
    folder = run_dir / "sweep"
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["variant"] for row in rows] == [
        *("base", "base, conditioned"),
        *("hard", "hard_soft", "full", "text", "truth"),
    ]
    metrics = json.loads((folder / "metrics.json").read_text())["rows"]
    hca = {(row["model"], row["paradigm"]): row["hca"]["value"] for row in metrics}
    unparsed = {
        (row["model"], row["paradigm"]): row["parse_failure_rate"]["value"] for row in metrics
    }
    for row in rows[2:]:
        name = row["variant"]
        assert float(row["hca"]) == hca[name, "joint"]
        assert float(row["parse_failure_rate"]) == unparsed[name, "joint"]
        for paradigm in ("conditioned", "independent"):
            lost = hca[name, paradigm] - hca["base", paradigm]
            assert float(row[f"{paradigm}_difference"]) == lost
    for row, paradigm in zip(rows[:2], ("joint", "conditioned"), strict=True):
        assert float(row["hca"]) == hca["base", paradigm]
        assert float(row["parse_failure_rate"]) == unparsed["base", paradigm]
    assert {name for name, _ in hca} == {"base", *(row["variant"] for row in rows[2:])}
    assert Image.open(folder / "plot.png").size[0] > 500
    assert files(run_dir, "metrics.*") | files(run_dir, "*.parquet") == own

    ends = files(run_dir, "predictions/*/*/attempts/*.end.json")
    again = run("sweep", elicited)
    assert again.exit_code == 0, again.output
    assert len(trained) == 5
    assert files(run_dir, "predictions/*/*/attempts/*.end.json") == ends


SEEDS = ("sweep.seeds=[3, 4]", "sweep.variants={own: {losses: {soft: 0.5}}}")


def test_seeds_are_trained_apart_and_summed_up(
    elicited: Path, trained: list[tuple[Any, int]]
) -> None:
    result = run("sweep", elicited, *SEEDS, options=("--json",))
    assert result.exit_code == 0, result.output
    assert [(losses.soft, seed) for losses, seed in trained] == [(0.5, 3), (0.5, 4)]
    content = json.loads(result.stdout.splitlines()[-1])
    (row,) = content["rows"]
    assert row["num_seeds"] == 2
    values = [each["value"] for each in row["hca"]["seeds"].values()]
    assert row["hca"]["mean"] == sum(values) / 2
    folder = elicited.parents[1] / "sweep"
    *_, line = csv.DictReader((folder / "table.csv").open())
    assert (line["variant"], line["num_seeds"]) == (
        "own",
        "2",
    )
    assert (float(line["hca_lowest"]), float(line["hca_highest"])) == (min(values), max(values))
    models = {row["model"] for row in json.loads((folder / "metrics.json").read_text())["rows"]}
    assert models == {"base", "own.s3", "own.s4"}


def test_students_that_name_are_measured_by_naming(
    elicited: Path, trained: list[tuple[Any, int]]
) -> None:
    naming = ("distill.formats=[open]", "evaluate.paradigms=[open]", "distill.epochs=3")
    result = run("sweep", elicited, *naming, "sweep.variants={own: {}}", options=("--json",))
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout.splitlines()[-1])
    folder = elicited.parents[1] / "sweep"
    metrics = json.loads((folder / "metrics.json").read_text())["rows"]
    hca = {(row["model"], row["paradigm"]): row["hca"] for row in metrics}
    assert hca.keys() == {("base", "open"), ("own", "open")}
    (row,) = content["rows"]
    assert (content["paradigm"], row["hca"]["mean"]) == ("open", hca["own", "open"]["value"])
    assert content["references"]["seen"]["base"] == hca["base", "open"]
    assert (folder / "table.md").read_text("utf-8").startswith("Open HCA in percent")


def test_one_that_fails_stops_no_other(
    elicited: Path, trained: list[tuple[Any, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_adapter = training.add_adapter

    def failing(base: Any, spec: Any, *args: Any) -> Any:
        if spec.lora.rank == 3:
            raise FatalError("the loss is nan\nat step 1")
        return add_adapter(base, spec, *args)

    monkeypatch.setattr(training, "add_adapter", failing)
    settings = ("sweep.variants={bad: {lora: {rank: 3}}, good: {lora: {rank: 2}}}",)
    result = run("sweep", elicited, *settings)
    assert result.exit_code == 1
    assert "bad failed: the loss is nan at step 1" in result.output
    assert [losses.soft for losses, _ in trained] == [1.0]
    folder = elicited.parents[1] / "sweep"
    lines = {row["variant"]: row for row in csv.DictReader((folder / "table.csv").open())}
    assert (lines["bad"]["num_failed"], lines["bad"]["hca"]) == ("1", "")
    assert (lines["good"]["num_failed"], lines["good"]["num_seeds"]) == ("", "1")
    assert "bad failed: the loss is nan" in (folder / "table.md").read_text("utf-8")
    all_bad = run("sweep", elicited, "sweep.variants={bad: {lora: {rank: 3}}}")
    assert all_bad.exit_code == 2
    assert "no variant could be trained (bad: the loss is nan" in all_bad.output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluate.paradigms=[independent]", "evaluate.paradigms: joint is not among them"),
        ("distill.formats=[open]", "evaluate.paradigms: open is not among them"),
        ("evaluate.datasets=[]", "evaluate.datasets: none is named"),
        ("evaluate.datasets=[seem]", "no dataset 'seem' under data; did you mean seen?"),
        ("elicit.top_k=3", "no finished states for this config"),
        ("sweep.variants={}", "no variant could be trained (there is none)"),
    ],
)
def test_what_cannot_end_well_is_not_begun(
    elicited: Path, trained: list[tuple[Any, int]], setting: str, message: str
) -> None:
    result = run("sweep", elicited, setting)
    assert result.exit_code == 2
    assert message in result.output
    assert not trained
