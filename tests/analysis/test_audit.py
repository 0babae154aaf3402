"""The audit finds what questions give away, images that occur twice, and labels that disagree."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import sekd
from PIL import Image

from sekd.analysis.audit import audit
from sekd.analysis.solver import solve
from sekd.config import DatasetSpec
from sekd.data.samples import Dataset, questions_of
from sekd.report.audit import audit_findings

SHARED = Path(os.environ.get("SEKD_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
TAXONOMY = {
    "gull": ["bird", "waders", "gull"],
    "tern": ["bird", "waders", "tern"],
    "owl": ["bird", "owls", "owl"],
    "pike": ["fish", "pikes", "pike"],
}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((90, 90), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two splits: one image in both, one scaled copy, one under two labels, one broken."""
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text(json.dumps(TAXONOMY))
    for number, label in enumerate(["gull", "tern", "owl"]):
        for copy in range(3):
            draw(Path(f"train/{label}/{copy}.png"), 10 * number + copy)
    for number, label in enumerate(["gull", "pike"]):
        for copy in range(2):
            draw(Path(f"test/{label}/{copy}.png"), 100 + 10 * number + copy)
    Path("test/gull/2.png").write_bytes(Path("train/gull/2.png").read_bytes())
    Path("test/pike/2.png").write_bytes(Path("train/owl/1.png").read_bytes())
    Image.open("train/tern/0.png").resize((60, 60)).save("test/gull/small.png")
    Path("test/pike/broken.png").write_text("<html>")
    Path("my.yaml").write_text(
        "run_dir: run\nmodel: {path: none}\ndata:\n"
        "  train: {taxonomy: t.json, images: train}\n"
        "  test: {taxonomy: t.json, images: test, distractors: siblings}\n"
        "  walked: {taxonomy: t.json, images: train/gull, options: children}\n"
    )
    return Path("my.yaml")


@pytest.fixture
def datasets(config: Path) -> list[Dataset]:
    train = DatasetSpec(taxonomy=Path("t.json"), images=Path("train"))
    test = DatasetSpec(taxonomy=Path("t.json"), images=Path("test"), distractors="siblings")
    return [Dataset.load("train", train), Dataset.load("test", test)]


def test_images_that_occur_twice_and_labels_that_disagree_are_found(
    datasets: list[Dataset],
) -> None:
    advanced: list[int] = []
    audited = audit(datasets, advanced.append)
    assert sum(advanced) == 9 + 8
    (overlap,) = audited.overlaps
    assert overlap.datasets == ("train", "test")
    assert (overlap.num_identical, overlap.num_alike) == (2, 1)
    assert set(overlap.examples) == {
        ("gull/2.png", "gull/2.png"),
        ("owl/1.png", "pike/2.png"),
        ("tern/0.png", "gull/small.png"),
    }
    (disagreement,) = audited.disagreements
    assert disagreement.samples == (
        ("train", "owl/1.png", "bird/owls/owl"),
        ("test", "pike/2.png", "fish/pikes/pike"),
    )
    assert [images.num_unreadable for images in audited.images] == [0, 1]
    findings = list(audit_findings(audited))
    assert findings[0].startswith("test: 1 images cannot be read; the first: test/pike/broken.png")
    assert "train tern/0.png is or looks like test gull/small.png" in findings
    assert findings[-1] == "train owl/1.png: owl, test pike/2.png: pike"


def test_an_image_that_one_dataset_has_twice_is_found(config: Path) -> None:
    draw(Path("twice/gull/a.png"), 1)
    draw(Path("twice/gull/b.png"), 1)
    draw(Path("twice/gull/c.png"), 2)
    spec = DatasetSpec(taxonomy=Path("t.json"), images=Path("twice"))
    (overlap,) = audit([Dataset.load("twice", spec)], lambda _: None).overlaps
    assert (overlap.num_identical, overlap.num_alike) == (1, 0)
    assert overlap.examples == (("gull/b.png", "gull/a.png"),)


def test_figures_of_the_questions_are_those_of_the_definitions(datasets: list[Dataset]) -> None:
    train, test = audit(datasets, lambda _: None).questions
    assert (train.num_classes, train.num_own_classes, train.num_leaves) == (3, 2, 4)
    assert (test.num_classes, test.num_own_classes) == (2, 1)
    # Levels of 2, 3 and 4 nodes: all of them are shown, so one path is right of four.
    assert train.blind_hca == pytest.approx(25.0)
    assert train.chance_hca == pytest.approx(100 / 24)
    assert train.shares is not None
    assert (train.shares.num_questions, train.shares.single_option) == (27, 0.0)
    assert train.shares.few_siblings == pytest.approx(200 / 3)
    assert [each.letter for each in train.letters] == ["A", "B", "C", "D"]
    assert sum(each.share for each in train.letters) == pytest.approx(100)
    assert [each.expected for each in train.letters] == pytest.approx(
        [100 * (1 / 2 + 1 / 3 + 1 / 4) / 3] * 2 + [100 * (1 / 3 + 1 / 4) / 3, 100 / 4 / 3]
    )


def test_the_expected_hca_is_what_the_solver_gets_on_average(datasets: list[Dataset]) -> None:
    train = datasets[0]
    train = replace(train, spec=train.spec.model_copy(update={"num_options": 2}))
    expected = audit([train], lambda _: None).questions[0].blind_hca
    samples = [(sample.id, questions_of(train, sample) or ()) for sample in train.samples]
    right: list[bool] = []
    for seed in range(300):
        rows = list(solve(samples, dataset="train", seed=seed))
        paths = [rows[start : start + 3] for start in range(0, len(rows), 3)]
        right += [all(row.truth == row.prediction for row in path) for path in paths]
    assert expected == pytest.approx(100 * np.mean(right), abs=3)


def test_a_single_option_and_samples_without_label_are_counted(config: Path) -> None:
    Path("deep.json").write_text(json.dumps({"a": ["r", "x", "y", "a"], "b": ["r", "x", "y", "b"]}))
    draw(Path("deep/a/1.png"), 1)
    spec = DatasetSpec(taxonomy=Path("deep.json"), images=Path("deep"))
    loose = DatasetSpec(taxonomy=Path("deep.json"), images=Path("deep/a"))
    datasets = [Dataset.load("deep", spec), Dataset.load("loose", loose)]
    deep, unlabelled = audit(datasets, lambda _: None).questions
    assert deep.shares is not None
    assert deep.shares.single_option == pytest.approx(200 / 3)
    assert deep.blind_hca == pytest.approx(50)
    assert (unlabelled.num_unusable, unlabelled.shares, unlabelled.letters) == (1, None, ())
    assert unlabelled.first_unusable == "1.png: it has no label"


def test_a_descent_is_audited_on_the_right_path(config: Path) -> None:
    spec = DatasetSpec(taxonomy=Path("t.json"), images=Path("train"), options="children")
    (walked,) = audit([Dataset.load("walked", spec)], lambda _: None).questions
    # Two children of the root; two of bird; two of waders, one of owls.
    assert walked.blind_hca == walked.chance_hca == pytest.approx(100 * (6 / 8 + 3 / 4) / 9)


def test_the_published_cub_options_give_98_percent_away() -> None:
    table = SHARED / "annotations/CUB200_with_random_choice.jsonl"
    if not table.is_file():
        pytest.skip(f"{table} is absent; SEKD_SHARED_DATA names its folder")
    spec = DatasetSpec(
        taxonomy=SHARED / "taxonomies/hierarchy_CUB200.json",
        table=table,
        image_prefix="/projectnb/ivc-ml/yuwentan/dataset/",
        image_root=Path("images"),
    )
    audited = audit([Dataset.load("cub", spec)], lambda _: None)
    (questions,) = audited.questions
    assert questions.blind_hca == pytest.approx(98.3, abs=0.05)
    assert questions.chance_hca == pytest.approx(100 / 4**4)
    assert (questions.num_classes, questions.num_unusable) == (200, 0)
    assert audited.images[0].num_unreadable == 5794


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("_narrow")
def test_the_command_prints_tables_of_80_columns_or_json(config: Path) -> None:
    printed = sekd("data", "audit", config, "train", "test")
    assert printed.exit_code == 0
    tables = printed.stdout.split("test: 1 images")[0]
    assert max(len(line.rstrip()) for line in tables.splitlines()) <= 80
    assert "in common with" in tables
    as_json = sekd("data", "audit", config, "--json")
    content = json.loads(as_json.stdout)
    assert [each["dataset"] for each in content["questions"]] == ["train", "test", "walked"]
    wrong = sekd("data", "audit", config, "tset")
    assert wrong.exit_code == 2
    assert "no dataset 'tset' under data; did you mean test?" in wrong.stderr


def test_real_photographs_in_folders_are_audited_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One product lies under Vegetables in one split, and under Vegetables/Mushroom in another."""
    root = SHARED / "grocery"
    if not root.is_dir():
        pytest.skip(f"{root} is absent; SEKD_SHARED_DATA names its folder")
    monkeypatch.chdir(tmp_path)
    datasets = [
        Dataset.load(split, DatasetSpec(taxonomy=Path("folders"), images=root / split))
        for split in ("val", "test")
    ]
    audited = audit(datasets, lambda _: None)
    val, test = audited.questions
    assert (val.num_samples, test.num_samples) == (120, 486)
    assert val.num_own_classes == 1
    assert audited.overlaps == ()
    assert [images.num_unreadable for images in audited.images] == [0, 0]
