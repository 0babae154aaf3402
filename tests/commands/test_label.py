"""Unlabelled images from a plan to an evaluated student, and the table of labels in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from command_line import sekd

from sekd.config import load_config
from sekd.data.labels import LABEL_SCHEMA
from sekd.data.samples import load_taxonomy
from sekd.data.signals import ANSWERS, TRANSCRIPTS
from sekd.pipeline.manifest import find_done_files
from sekd.pipeline.stage import newest_first

EVALUATE: dict[str, Any] = {
    "datasets": ["seen"],
    "paradigms": ["joint", "descent"],
    "controls": ["blind", "taxonomy"],
    "limit": 6,
    "num_bootstrap": 10,
}


def write_config(world: Path, folder: Path, **sections: Any) -> Path:
    """A config whose training images have no labels: their folders tell nothing."""
    content = yaml.safe_load((world / "config.yaml").read_text("utf-8"))
    train = content["data"]["train"]
    images = sorted(Path(train.pop("images")).glob("*/*"))[:12]
    (folder / "images").mkdir()
    for number, image in enumerate(images):
        shutil.copy(image, folder / "images" / f"{number}{image.suffix}")
    names = [f"images/{number}{image.suffix}" for number, image in enumerate(images)]
    (folder / "train.csv").write_text("\n".join(["image", *names]), encoding="utf-8")
    train |= {"table": str(folder / "train.csv"), "options": "children"}
    content |= {"run_dir": str(folder / "run"), "evaluate": EVALUATE}
    content["elicit"]["runtime"] = {"batch_size": 5, "shard_size": 5}
    content["distill"] |= {"epochs": 1.0, "global_batch": 4, "learning_rate": 0.001}
    content["distill"]["runtime"] = {"batch_size": 4, "logging_steps": 1}
    for section, changes in sections.items():
        content[section] |= changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def labelled(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a run that went through ``sekd label``."""
    config = write_config(world, tmp_path_factory.mktemp("label"))
    result = sekd("label", config)
    assert result.exit_code == 0, result.output
    assert "12 samples of train labelled with 48 questions, 0 quarantined" in result.output
    return config


def stored_prompts(config: Path) -> list[Any]:
    """The transcripts and the answers of the newest elicitation, but for their measurements."""
    (directory, _), *_ = newest_first(load_config(config).run_dir / "answers")
    rows = []
    for transcripts, answers in find_done_files(directory, TRANSCRIPTS, ANSWERS).values():
        rows += pq.read_table(transcripts).to_pylist()
        rows += pq.read_table(answers).to_pylist()
    return rows


def test_the_table_has_a_row_for_each_image(labelled: Path) -> None:
    config = load_config(labelled)
    table = pq.read_table(config.run_dir / "labels-train.parquet")
    assert table.schema.equals(LABEL_SCHEMA)
    taxonomy = load_taxonomy(config.data["train"])
    rows = table.to_pylist()
    assert len(rows) == 12
    for row in rows:
        assert row["label"] in taxonomy.leaf_ids
        nodes = [level["node"] for level in row["levels"]]
        assert nodes == [node.id for node in taxonomy.path(taxonomy[row["label"]])]
        assert row["probability"] == row["levels"][-1]["path_probability"]
        for level in row["levels"]:
            assert sum(level["probabilities"]) == pytest.approx(1, abs=1e-5)
            assert level["node"] in level["children"]
            assert 0 < level["option_mass"] <= 1.001
        assert row["paths"] == [{"node": row["label"], "probability": row["probability"]}]


def test_a_second_run_descends_with_no_image_again(labelled: Path) -> None:
    run_dir = load_config(labelled).run_dir
    before = {path: path.read_bytes() for path in run_dir.rglob("*.end.json")}
    result = sekd("label", labelled, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["num_questions"] == 48
    assert {path: path.read_bytes() for path in run_dir.rglob("*.end.json")} == before
    result = sekd("status", run_dir)
    assert "descents/train" in result.output


def test_a_plan_counts_the_descents(labelled: Path) -> None:
    result = sekd("plan", labelled, "--json")
    assert result.exit_code == 0, result.output
    planned = json.loads(result.stdout.splitlines()[-1])
    assert planned["num_answers"] == planned["descents"]["num_questions"] == 48
    assert planned["descents"]["is_over_leaves"]
    shown = sekd("plan", labelled).stdout
    assert "every leaf equally often" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_unlabelled_images_train_a_student_that_is_evaluated(labelled: Path) -> None:
    for command in ("elicit", "distill", "evaluate", "report"):
        argument = labelled if command != "report" else load_config(labelled).run_dir
        result = sekd(command, argument)
        assert result.exit_code == 0, result.output
    run_dir = load_config(labelled).run_dir
    rows = json.loads((run_dir / "metrics.json").read_text())["rows"]
    cells = {(row["model"], row["paradigm"], row["control"]) for row in rows}
    assert cells == {
        *((m, p, c) for m in ("base", "student") for p in ("joint", "descent")
          for c in ("none", "blind")),
        ("taxonomy", "options", "taxonomy"),
    }  # fmt: skip
    for row in rows:
        if row["paradigm"] == "descent":
            assert row["parse_failure_rate"]["value"] == 0
            assert row["tice"]["value"] == 0
            assert row["diagnosis"]["calibration"] is not None
    predictions = pq.read_table(run_dir / "predictions.parquet").to_pylist()
    descents = [row for row in predictions if row["paradigm"] == "descent"]
    assert all(len(row["options"]) == len(row["option_logprobs"]) == 3 for row in descents)
    assert all(row["path_logprob"] <= 0 for row in descents)
    assert "no label was used" in (run_dir / "report.html").read_text("utf-8")
    answers = [row for row in stored_prompts(labelled) if "answer" in row]
    assert {row["truth"] for row in answers} == {None}


def test_a_students_quiz_depends_on_the_label_alone(
    labelled: Path, world: Path, tmp_path: Path
) -> None:
    """Another path to the same label, with other options seen, leaves every prompt as it is.

    The labels come from a table without any trace of the descent.
    """
    assert sekd("elicit", labelled).exit_code == 0
    rows = pq.read_table(load_config(labelled).run_dir / "labels-train.parquet").to_pylist()
    text = "\n".join(f"{row['sample_id']},{row['label']}" for row in rows)
    (tmp_path / "labels.csv").write_text(f"sample_id,label\n{text}\n", encoding="utf-8")
    config = write_config(world, tmp_path)
    content = yaml.safe_load(config.read_text("utf-8"))
    del content["data"]["train"]["options"]
    content["data"]["train"]["labels"] = str(tmp_path / "labels.csv")
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    result = sekd("elicit", config)
    assert result.exit_code == 0, result.output
    assert "12 of 12 samples have one" in result.output

    def without_place(rows: list[Any]) -> list[Any]:
        return [{k: v for k, v in row.items() if k not in ("image", "truth")} for row in rows]

    assert without_place(stored_prompts(config)) == without_place(stored_prompts(labelled))


def test_only_confident_labels_are_taken(labelled: Path) -> None:
    rows = pq.read_table(load_config(labelled).run_dir / "labels-train.parquet").to_pylist()
    floor = sorted(row["probability"] for row in rows)[6]
    result = sekd("elicit", labelled, "--set", f"data.train.min_confidence={floor}")
    assert result.exit_code == 0, result.output
    assert "6 of 12 samples have one; left out: 6 below min_confidence" in result.output
    result = sekd("elicit", labelled, "--set", "data.train.min_confidence=1.0")
    assert result.exit_code == 2
    assert "no sample is left of 12: 12 below min_confidence 1" in result.output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluate.datasets=[train]", "evaluate.paradigms=[joint]"],
         "options: children gives no quiz for joint; evaluate open or descent alone, or set"),
        (["evaluate.datasets=[train]", "evaluate.paradigms=[descent]"],
         "no image of data.train has a label, and an evaluation scores answers with labels"),
        (["distill.labels=truth", "distill.losses.soft=0", "distill.losses.feature=0"],
         "data.train.options: children takes the teacher's own; set distill.labels: teacher"),
        (["data.train.distractors=walk"], "walk is now a setting of its own: options: children"),
        (["evaluate.datasets=[nowhere]"], "evaluate.datasets: no dataset 'nowhere' under data"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["plan", "elicit", "rounds"])
def test_what_would_stop_a_later_stage_is_said_before_the_first_one(
    world: Path, tmp_path: Path, command: str, settings: list[str], message: str
) -> None:
    config = write_config(world, tmp_path)
    arguments = [part for setting in settings for part in ("--set", setting)]
    result = sekd(command, config, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "descents").exists()


def test_rounds_label_anew_with_each_student(world: Path, tmp_path: Path) -> None:
    config = write_config(world, tmp_path, evaluate={"controls": [], "limit": 4})
    result = sekd("rounds", config, "--set", "rounds=2", "--set", "distill.epochs=0.5")
    assert result.exit_code == 0, result.output
    run_dir = tmp_path / "run"
    assert (run_dir / "labels-train.parquet").exists()
    rounds = json.loads((run_dir / "rounds" / "rounds.json").read_text())
    if len(rounds["rounds"]) > 2:
        assert (run_dir / "rounds" / "2" / "labels-train.parquet").exists()
