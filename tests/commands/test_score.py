"""sekd score as a user runs it: the worked example, cells, comparisons, and what is refused."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import sekd

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.solver import solve
from sekd.analysis.summary import measure_cell
from sekd.config import EvaluateSpec
from sekd.data.predictions import read_predictions, write_predictions
from sekd.data.questions import labelled_questions
from sekd.data.taxonomy import Taxonomy

NAMES = ["root", *"abcd"]
FLAGS = ["1111", "0111", "1011", "1100", "101", "1110"]


def scored(*arguments: object) -> dict[str, Any]:
    result = sekd("score", *arguments, "--json")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.fixture
def taxonomy(tmp_path: Path) -> Path:
    """Two branches of four levels, one of three; a wrong answer is the other branch's node."""
    leaves = {f"{side}4": ["life", *(f"{side}{level}" for level in (1, 2, 3, 4))] for side in "pq"}
    leaves["short"] = ["life", "p1", "p2", "short"]
    leaves["other"] = ["life", "q1", "q2", "other"]
    path = tmp_path / "taxonomy.json"
    path.write_text(json.dumps(leaves), encoding="utf-8")
    return path


def write_flags(path: Path, flags: list[str], **names: str) -> Path:
    """Predictions that are right where the flag is 1; x: not parsed."""
    lines = [",".join([*names, "sample_id,level,truth,prediction"])]
    for sample, text in enumerate(flags):
        for level, flag in enumerate(text, start=1):
            is_short = len(text) == level == 3
            truth, wrong = ("short", "other") if is_short else (f"p{level}", f"q{level}")
            answer = {"1": truth, "0": wrong, "x": ""}[flag]
            lines.append(",".join([*names.values(), f"s{sample}", str(level), truth, answer]))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_worked_example_to_the_digit(taxonomy: Path, tmp_path: Path) -> None:
    content = scored(write_flags(tmp_path / "p.csv", FLAGS), "--taxonomy", taxonomy)
    rates = {
        name: round(value["value"], 2)
        for name, value in content.items()
        if isinstance(value, dict) and "value" in value
    }
    assert rates == {
        "hca": 16.67,
        "leaf_accuracy": 66.67,
        "por": 73.61,
        "spor_prefix": 47.22,
        "spor_run": 63.89,
        "tor": 50.0,
        "dwpa": 18.75,
        "tice": 83.33,
        "parse_failure_rate": 0.0,
    }
    by_level = {level: round(each["value"], 2) for level, each in content["level_accuracy"].items()}
    assert by_level == {"1": 83.33, "2": 66.67, "3": 83.33, "4": 60.0}
    given = content["accuracy_given_parent_correct"], content["accuracy_given_parent_wrong"]
    assert [[round(each["value"]) for each in levels.values()] for levels in given] == [
        [60, 75, 75],
        [100, 100, 0],
    ]
    for estimate in (content["hca"], content["level_accuracy"]["4"]):
        assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 100
    assert content["root_is_scored"] is False
    assert (content["num_samples"], content["num_unknown_predictions"]) == (6, 0)
    assert [(each["name"], each["num_samples"]) for each in content["subtrees"]] == [("p1", 6)]
    (p4,) = [each for each in content["nodes"] if each["name"] == "p4"]
    assert (p4["num_samples"], p4["accuracy"]["value"]) == (5, 60)
    assert p4["confused_with"] == [{"node": "life/q1/q2/q3/q4", "name": "q4", "count": 2}]


def test_a_person_sees_the_same(taxonomy: Path, tmp_path: Path) -> None:
    path = write_flags(tmp_path / "p.csv", FLAGS)
    names = "life,order,family,genus,species"
    result = sekd("score", path, "--taxonomy", taxonomy, "--level-names", names)
    assert result.exit_code == 0
    for shown in ("the root is not scored", "16.67", "73.61", "species", "60.00", "p1", "q4"):
        assert shown in result.stdout
    assert result.stderr == ""


def test_options_change_what_they_say(taxonomy: Path, tmp_path: Path) -> None:
    path = write_flags(tmp_path / "p.csv", FLAGS)
    content = scored(
        path, "--taxonomy", taxonomy, "--alpha", 1, "--subtree-level", 3, "--bootstrap", 1
    )
    assert content["dwpa"] == content["hca"]
    assert [each["name"] for each in content["subtrees"]] == ["p3", "short"]
    result = sekd("score", path, "--taxonomy", taxonomy, "--subtree-level", 0)
    assert result.exit_code == 2
    assert "--subtree-level: level 0 is not scored; give 1 to 4" in result.stderr


def test_the_root_is_scored_where_asked(taxonomy: Path, tmp_path: Path) -> None:
    rows = [
        ("s", 0, "life", "life"),
        ("s", 1, "p1", "q1"),
        ("s", 2, "p2", "p2"),
        ("s", 3, "short", "short"),
    ]
    columns = dict(
        zip(
            ("sample_id", "level", "truth", "prediction"),
            map(list, zip(*rows, strict=True)),
            strict=True,
        )
    )
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table(columns), path)
    without = scored(path, "--taxonomy", taxonomy)
    assert without["por"]["value"] == pytest.approx(200 / 3)
    content = scored(path, "--taxonomy", taxonomy, "--score-root", "--subtree-level", 0)
    assert content["root_is_scored"] is True
    assert content["por"]["value"] == 75
    assert list(content["level_accuracy"]) == ["0", "1", "2", "3"]
    assert list(content["accuracy_given_parent_wrong"]) == ["1", "2", "3"]
    assert [each["name"] for each in content["subtrees"]] == ["life"]
    result = sekd("score", path, "--taxonomy", taxonomy, "--score-root")
    assert "the root is scored, as level 0" in result.stdout


def test_cells_are_scored_apart(taxonomy: Path, tmp_path: Path) -> None:
    paths = [
        write_flags(tmp_path / f"{model}.csv", flags, model=model, dataset="d")
        for model, flags in (("base", ["1111", "x000"]), ("student", FLAGS))
    ]
    both = tmp_path / "both.csv"
    both.write_text("\n".join([paths[0].read_text(), *paths[1].read_text().split("\n")[1:]]))
    content = scored(both, "--taxonomy", taxonomy)
    assert [(row["model"], row["dataset"], row["num_samples"]) for row in content["rows"]] == [
        ("base", "d", 2),
        ("student", "d", 6),
    ]
    base = content["rows"][0]
    assert (base["hca"]["value"], base["parse_failure_rate"]["value"]) == (50, 50)
    (only,) = scored(both, "--taxonomy", taxonomy, "--only", "model=base")["rows"]
    assert only == base
    result = sekd("score", both, "--taxonomy", taxonomy)
    assert "base" in result.stdout
    assert "student" in result.stdout
    result = sekd("score", both, "--taxonomy", taxonomy, "--only", "model")
    assert result.exit_code == 2
    assert "give COLUMN=VALUE" in result.stderr


def measured(path: Path, tree: Taxonomy) -> dict[str, Any]:
    """What sekd evaluate measures of a cell."""
    key = CellKey("d", "taxonomy", "options")
    cell = CellRows(key, tree, read_predictions([path]), num_quarantined=0, cost=None)
    return measure_cell(cell, EvaluateSpec()).to_json()


def test_predictions_of_sekds_own(taxonomy: Path, tmp_path: Path) -> None:
    """What evaluate writes is scored as evaluate scores it."""
    tree = Taxonomy.load(taxonomy)
    samples = []
    for sample in range(30):
        leaf = tree.leaf(["p4", "q4", "short", "other"][sample % 4])
        asked = labelled_questions(
            tree, leaf, sample_id=str(sample), distractors="random", num_options=2, seed=0
        )
        samples.append((str(sample), asked))
    path = tmp_path / "predictions.parquet"
    write_predictions(solve(samples, dataset="d", seed=0), path)
    (row,) = scored(path, "--taxonomy", taxonomy)["rows"]
    own = measured(path, tree)
    assert own.items() <= row.items()
    turned = [
        replace(row, rotation=r) for r in (0, 1) for row in solve(samples, dataset="d", seed=r)
    ]
    write_predictions(turned, path)
    (row,) = scored(path, "--taxonomy", taxonomy)["rows"]
    both = measured(path, tree)
    assert both | {"tice": None} == {name: row[name] for name in both}
    assert own["tice"] is not None
    assert both["hca"]["value"] < own["hca"]["value"]


def test_a_comparison_is_paired(taxonomy: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    hard = [rng.random() for _ in range(400)]
    here, there = (
        ["1111" if rng.random() > h * skill else "0000" for h in hard] for skill in (0.6, 1.0)
    )
    there[0] = "1111"
    files = [write_flags(tmp_path / f"{i}.csv", flags) for i, flags in enumerate((here, there))]
    content = scored(files[0], "--taxonomy", taxonomy, "--compare", files[1])
    comparison = content["comparison"]
    values = [100 * flags.count("1111") / 400 for flags in (here, there)]
    hca = comparison["differences"]["hca"]
    assert (hca["a"], hca["b"]) == tuple(values)
    assert hca["value"] == pytest.approx(values[0] - values[1])
    assert 0 < hca["low"] < hca["value"] < hca["high"]
    assert comparison["agreement"]["hca"]["mcnemar"]["p_value"] < 0.01
    only_here = sum(a > b for a, b in zip(here, there, strict=True))
    assert comparison["agreement"]["leaf_accuracy"]["num_only_a"] == only_here
    result = sekd("score", files[0], "--taxonomy", taxonomy, "--compare", files[1])
    assert f"{hca['value']:+.2f}" in result.stdout
    assert "400 samples" in result.stdout


def test_other_samples_or_cells_are_not_compared(taxonomy: Path, tmp_path: Path) -> None:
    def refused(here: Path, there: Path) -> str:
        result = sekd("score", here, "--taxonomy", taxonomy, "--compare", there)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        return result.stderr

    two, one = (write_flags(tmp_path / f"{n}.csv", FLAGS[:n]) for n in (2, 1))
    assert "1 samples are in PREDICTIONS alone, e.g. 's1'" in refused(two, one)
    assert "1 samples are in OTHER alone, e.g. 's1'" in refused(one, two)
    other = tmp_path / "other.csv"
    other.write_text("sample_id,truth,prediction\ns0,q4,q4\n")
    assert "1 samples have another truth in a than in b" in refused(one, other)
    cells = tmp_path / "cells.csv"
    lines = "model,sample_id,truth,prediction\nbase,s0,p4,p4\nstudent,s0,p4,q4\n"
    cells.write_text(lines)
    assert "OTHER has no all, but base; student" in refused(one, cells)
    swapped = tmp_path / "swapped.csv"
    swapped.write_text(
        "\n".join(reversed(lines.strip().split("\n")[1:])).join([lines.split("\n")[0] + "\n", ""])
    )
    rows = scored(cells, "--taxonomy", taxonomy, "--compare", swapped)["rows"]
    assert [row["comparison"]["differences"]["hca"]["value"] for row in rows] == [0, 0]


def test_faults_are_one_line_and_exit_code_2(taxonomy: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("sample_id,level,truth,prediction\n1,1,gnu,p1\n2,1,p1,p1\n2,1,p1,p1\n")
    result = sekd("score", path, "--taxonomy", taxonomy)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(
        f"sekd: {path}: rows that give a sample's level again: 1 (line 4"
    )
    assert "truths not in " in result.stderr
    assert result.stderr.count("\n") == 1
    result = sekd("score", path, "--taxonomy", tmp_path / "absent.json")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_unknown_predictions_are_warned_of_and_counted(taxonomy: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("sample_id,truth,prediction\n1,p4,gnu\n2,p4,p4\n")
    result = sekd("score", path, "--taxonomy", taxonomy, "--json")
    assert result.exit_code == 0
    assert "counted as wrong: 4 (line 2: 'gnu' at level 1" in result.stderr
    content = json.loads(result.stdout)
    assert content["num_unknown_predictions"] == 4
    assert content["hca"]["value"] == 50
    assert content["tice"] is None  # answers are leaves alone
    assert content["parse_failure_rate"]["value"] == 0


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """Rich would take [red] for a colour."""
    (tmp_path / "t.json").write_text('{"[red]a": ["r", "[red]a"], "[/b]": ["r", "[/b]"]}')
    (tmp_path / "p.csv").write_text("model,sample_id,truth,prediction\n[m],1,[red]a,[/b]\n")
    result = sekd("score", tmp_path / "p.csv", "--taxonomy", tmp_path / "t.json")
    assert result.exit_code == 0
    # the cell in two tables, the truth as a subtree and as a node, what it is taken for
    shown = [result.stdout.count(name) for name in ("[m]", "[red]a", "[/b]")]
    assert shown == [2, 2, 1]


TAXONOMIES = [
    "CUB200",
    "Food",
    "Inat_animal",
    "Inat_plantae",
    "imagenet_animal",
    "imagenet_artifact",
]


@pytest.mark.parametrize("name", TAXONOMIES)
def test_names_lead_through_real_taxonomies(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Ragged ones, with namesakes at one level and nodes that share their parent's name."""
    taxonomy = shared_data / f"taxonomies/hierarchy_{name}.json"
    tree = Taxonomy.load(taxonomy)
    by_level, by_path = [], []
    for leaf in sorted(tree.leaf_ids):
        path = [node.name for node in tree.path(tree[leaf])]
        by_path.append({"sample_id": leaf, "truth": path, "prediction": path})
        for level, text in enumerate(path, start=1):
            row = {"sample_id": leaf, "level": level, "truth": text.upper(), "prediction": text}
            by_level.append(row)
    for rows in (by_level, by_path):
        file = tmp_path / "p.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        content = scored(file, "--taxonomy", taxonomy, "--bootstrap", 1)
        assert content["num_samples"] == len(tree.leaf_ids)
        assert (content["hca"]["value"], content["tice"]["value"]) == (100, 0)


def test_help_has_an_example() -> None:
    result = sekd("score", "--help")
    assert "sekd score mine.csv" in result.output.split("Example:")[1]
