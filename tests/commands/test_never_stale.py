"""Data, weights or a taxonomy change, and change back: nothing is stale and nothing is redone."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from command_line import sekd
from plans import manifest_of
from safetensors.torch import load_file, save_file

from sekd.data.toyworld import write_world
from sekd.io.records import unseal

NUM_SAMPLES, SHARD_SIZE = 16, 4
SMALL = [
    *("--set", f"elicit.runtime.shard_size={SHARD_SIZE}", "--set", "elicit.plain.prompts=[]"),
    *("--set", "distill.epochs=1.0", "--set", "distill.global_batch=8"),
    *("--set", "distill.runtime.batch_size=4", "--set", "distill.replay=0"),
    *("--set", "evaluate.datasets=[seen]", "--set", "evaluate.limit=4"),
    *("--set", "evaluate.controls=[]", "--set", "evaluate.paradigms=[joint]"),
]


@dataclass(frozen=True)
class Run:
    """A run over a table of images that the test may change, with a model of its own."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "world" / "train.csv"

    def call(self, command: str, *options: object) -> Result:
        return sekd(command, self.folder / "config.yaml", *SMALL, *options)

    def adapter(self) -> str:
        """Train, or find the adapter; return what the command prints of it."""
        result = self.call("distill", "--json")
        assert result.exit_code == 0, result.output
        return str(json.loads(result.stdout)["adapter"])

    def elicit(self, *options: object) -> dict[str, Any]:
        result = self.call("elicit", "--json", *options)
        assert result.exit_code == 0, result.output
        summary: dict[str, Any] = json.loads(result.stdout)
        return summary

    def attempts(self) -> set[str]:
        return {str(path) for path in self.folder.glob("*/*/attempts/*.end.json")}

    def trained_on(self, adapter: str) -> str:
        record = unseal((Path(adapter).parent / "fingerprint.json").read_bytes())
        return str(record["fields"]["states"])


def make_run(folder: Path, tiny_model: Path) -> Run:
    write_world(folder / "world", num_train=24, num_test=6, seed=0)
    shutil.copytree(tiny_model, folder / "model")
    config = yaml.safe_load((folder / "world" / "config.yaml").read_text("utf-8"))
    config["model"]["path"] = str(folder / "model")
    train = folder / "world" / "train"
    taxonomy = config["data"]["train"]["taxonomy"]
    config["data"]["train"] = {"table": str(train.parent / "train.csv"), "taxonomy": taxonomy}
    config["run_dir"] = str(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    images = sorted((train / "images").glob("*/*.png"))
    rows = [f"{path.relative_to(train.parent)},{path.parent.name}\n" for path in images]
    (train.parent / "all.csv").write_text("image,label\n" + "".join(rows), encoding="utf-8")
    run = Run(folder)
    run.table.write_text("image,label\n" + "".join(rows[:NUM_SAMPLES]), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def distilled(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a finished student."""
    run = make_run(tmp_path_factory.mktemp("stale"), tiny_model)
    run.elicit()
    run.adapter()
    assert run.call("evaluate").exit_code == 0
    return run


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def change_labels(run: Run) -> None:
    """Give the first image the label of the last one."""
    header, first, *rest = run.table.read_text("utf-8").splitlines()
    image, _ = first.split(",")
    changed = f"{image},{rest[-1].split(',')[1]}"
    run.table.write_text("\n".join([header, changed, *rest]), encoding="utf-8")


def change_weights(run: Run) -> None:
    weights = load_file(run.folder / "model" / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight"))
    weights[name] = weights[name] * 1.01
    save_file(weights, run.folder / "model" / "model.safetensors", metadata={"format": "pt"})


def change_taxonomy(run: Run) -> None:
    """Rename a node of the second level, below which there are leaves with images."""
    path = run.folder / "world" / "train" / "taxonomy.json"
    _, name, *_ = next(iter(json.loads(path.read_text("utf-8")).values()))
    rewrite(path, f'"{name}"', f'"other{name}"')


STORIES = {
    "labels": (change_labels, "has another label"),
    "weights": (change_weights, "model.content.model.safetensors: "),
    "taxonomy": (change_taxonomy, "taxonomy: "),
}


@pytest.mark.parametrize("story", STORIES)
def test_what_changes_and_changes_back_is_trained_and_scored_as_it_was(
    distilled: Run, tmp_path: Path, story: str
) -> None:
    change, difference = STORIES[story]
    run = distilled
    summary, adapter = run.elicit(), run.adapter()
    metrics = (run.folder / "metrics.json").read_bytes()
    kept = [run.table, run.folder / "model", run.folder / "world" / "train" / "taxonomy.json"]
    for path in kept:
        copy(path, tmp_path / path.name)

    change(run)
    for command in ("distill", "evaluate"):
        refused = run.call(command)
        assert refused.exit_code == 2
        assert difference in refused.output
    assert (run.folder / "metrics.json").read_bytes() == metrics
    changed = run.elicit()
    assert changed["answers"] != summary["answers"] or story == "labels"
    refused = run.call("evaluate")  # the student of before, over what it was not trained on
    assert refused.exit_code == 2
    assert "was trained on something else than there is now" in refused.output

    for path in kept:
        copy(tmp_path / path.name, path)
    before = run.attempts()
    assert run.elicit() == summary
    assert run.adapter() == adapter
    fingerprint = manifest_of(Path(summary["states"])).fingerprint
    assert run.trained_on(adapter) == fingerprint
    assert run.call("evaluate").exit_code == 0
    assert run.attempts() == before
    image = next((run.folder / "world" / "seen" / "images").rglob("*.png"))
    predicted = sekd("predict", image, "--run", run.folder)
    assert predicted.exit_code == 0, predicted.output
    assert f"the model answers with the adapter {adapter}" in predicted.stderr
    assert (run.folder / "metrics.json").read_bytes() == metrics


def test_a_prediction_does_not_choose_between_students_by_their_age(
    distilled: Run, tmp_path: Path
) -> None:
    """Of two, neither of which is that of the data as they are now."""
    run = Run(Path(shutil.copytree(distilled.folder, tmp_path / "copy")))
    rewrite(run.folder / "config.yaml", str(distilled.folder), str(run.folder))
    (run.folder / "evaluate.config.yaml").unlink()  # it names the data of the run copied from
    students = []
    for _ in range(2):
        change_labels(run)
        run.elicit()
        students.append(run.adapter())
        lines = run.table.read_text("utf-8").splitlines()
        run.table.write_text("\n".join([lines[0], *lines[2:]]), encoding="utf-8")
    image = next((run.folder / "world" / "seen" / "images").rglob("*.png"))
    refused = sekd("predict", image, "--run", run.folder)
    assert refused.exit_code == 2
    assert all(f"{student}" in refused.stderr for student in students)
    assert sekd("predict", image, "--run", run.folder, "--adapter", students[0]).exit_code == 0
    rewrite(run.folder / "distill.config.yaml", "epochs: 1.0", "epochs: 2.0")
    damaged = sekd("predict", image, "--run", run.folder)
    assert damaged.exit_code == 2
    assert "distill.config.yaml: not what was written" in damaged.stderr


def test_a_dataset_grows_shrinks_and_is_repaired(tiny_model: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, tiny_model)

    def num_run(*options: object) -> dict[str, int]:
        """Elicit; return the number of shards of each stage that were run."""
        before = run.attempts()
        run.elicit(*options)
        new = [path.split("/")[-4] for path in run.attempts() - before]
        return {stage: new.count(stage) for stage in ("answers", "states")}

    def status() -> dict[str, Any]:
        answers, _ = json.loads(sekd("status", run.folder, "--json").stdout)
        assert (answers["num_done"], answers["num_planned"]) == (answers["num_planned"],) * 2
        return {key: answers[key] for key in ("num_planned", "num_added", "superseded")}

    assert num_run("--limit", 4) == {"answers": 1, "states": 1}
    assert num_run() == {"answers": 3, "states": 3}
    assert status() == {"num_planned": 16, "num_added": 12, "superseded": []}

    images = [line.split(",")[0] for line in run.table.read_text("utf-8").splitlines()[1:]]
    repaired = run.folder / "world" / images[5]
    shutil.copy(run.folder / "world" / images[6], repaired)
    assert num_run() == {"answers": 1, "states": 1}
    assert status()["superseded"] == [[1, f"{images[5]} has another image"]]

    rows = (run.folder / "world" / "all.csv").read_text("utf-8").splitlines()
    run.table.write_text("\n".join(rows[:22]), encoding="utf-8")
    assert num_run() == {"answers": 2, "states": 2}
    assert status() == {"num_planned": 21, "num_added": 5, "superseded": []}

    run.table.write_text("\n".join([*rows[:2], *rows[3:22]]), encoding="utf-8")
    assert num_run() == {"answers": 1, "states": 1}
    assert status()["superseded"] == [[0, f"{images[1]} is gone"]]
    assert f"shard 0 no longer counts: {images[1]} is gone" in sekd("status", run.folder).output

    run.table.write_text("\n".join(rows[:22]), encoding="utf-8")
    assert num_run("--set", "elicit.max_quarantined=0.5") == {"answers": 0, "states": 0}
    assert sekd("verify", run.folder).exit_code == 0
    assert sekd("gc", run.folder).exit_code == 0
    assert num_run() == {"answers": 0, "states": 0}
