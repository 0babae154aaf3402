"""``sekd predict`` as a person uses it: odd photographs, broken files, lists, 80 columns."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from command_line import sekd

from sekd.data.taxonomy import Taxonomy


@pytest.fixture
def photos(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images, one that is broken, and a text; the current folder is the one above them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(sorted((world / "seen" / "images").rglob("*.png"))[:3]):
        shutil.copy(image, folder / f"{number} with a long name that fills the line.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (folder / "notes.md").write_text("no image", "utf-8")
    return folder


@pytest.fixture
def run(world: Path) -> list[str]:
    return ["--run", str(world / "config.yaml"), "--single-pass"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table_with_a_row_for_each_image(photos: Path, run: list[str]) -> None:
    result = sekd("predict", "photos", *run, "--output", "out.csv", "--min-confidence", "0.999")
    assert result.exit_code == 0, result.output
    rows = rows_of(Path("out.csv"))
    assert [row["image"] for row in rows] == [
        *(f"photos/{n} with a long name that fills the line.png" for n in range(3)),
        "photos/broken.jpg",
    ]
    assert rows[3]["error"].startswith("not an image")
    assert rows[3]["leaf"] == rows[3]["order"] == ""
    for row in rows[:3]:
        assert row["error"] == ""
        chain = [float(row[f"{rank}_probability"]) for rank in ("order", "family", "genus")]
        assert chain == sorted(chain, reverse=True)
        assert row["leaf"].endswith(row["species"])
        if row["accepted_rank"] != "species":
            assert "less than 0.999" in row["stopped"]
    assert "4 images: " in result.output
    assert "1 failed" in result.output
    assert "photos: skipped 1 files that are no images: 1 with .md" in result.output
    assert "photos/broken.jpg: not an image" in result.output
    assert not Path("out.csv.run").exists()


def test_a_terminal_of_80_columns_shows_the_table(photos: Path, run: list[str]) -> None:
    result = sekd("predict", "photos", *run)
    assert result.exit_code == 0, result.output
    table = result.stdout
    assert all(len(line) <= 80 for line in table.splitlines())
    assert "Predictions in photos" in table
    assert "probability" in table
    assert "1 failed" in table


def test_machines_get_json(photos: Path, run: list[str]) -> None:
    result = sekd("predict", "photos", *run, "--top-k", "2", "--json", "-q")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 4
    assert [len(line["paths"]) for line in lines] == [2, 2, 2, 0]
    assert lines[0]["probability"] == lines[0]["paths"][0]["probability"]
    result = sekd("predict", "photos", *run, "--json", "-q", "-o", "out.parquet")
    summary = json.loads(result.stdout)
    assert (summary["num_images"], summary["num_failed"], summary["run"]) == (4, 1, None)
    assert len(pd.read_parquet("out.parquet")) == 4


def test_rows_are_streamed_where_a_pipe_wants_them(photos: Path, run: list[str]) -> None:
    paths = "".join(f"{path}\n" for path in sorted(photos.glob("*.png")))
    result = sekd("predict", "-", *run, "--format", "csv", "-q", stdin=paths)
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["image"] for row in rows] == paths.splitlines()


def test_a_list_of_species_restricts_and_shows_what_it_took_away(
    photos: Path, run: list[str], world: Path
) -> None:
    tree = Taxonomy.load(world / "seen" / "taxonomy.json")
    some = [tree[leaf_id].name for leaf_id in sorted(tree.leaf_ids)[:5]]
    Path("here.txt").write_text("\n".join([*some, "Panthera leo"]), "utf-8")
    result = sekd("predict", "photos", *run, "--only", "here.txt", "-o", "out.csv")
    assert result.exit_code == 0, result.output
    assert "1 of 6 names are not in the taxonomy: 'Panthera leo'" in result.output
    rows = rows_of(Path("out.csv"))[:3]
    assert {row["species"] for row in rows} <= set(some)
    assert all(0 <= float(row["outside"]) <= 1 for row in rows)


def test_the_output_is_scored_as_it_is(world: Path, run: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert sekd("predict", world / "seen" / "images", *run, "-o", out).exit_code == 0
    taxonomy = world / "seen" / "taxonomy.json"
    result = sekd("score", out, "--taxonomy", taxonomy, "--truth", "folder", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    right = [row["species"] == Path(row["image"]).parent.name for row in rows]
    assert metrics["leaf_accuracy"]["value"] == pytest.approx(100 * sum(right) / len(right))
    assert metrics["tice"]["value"] == 0


def test_many_images_leave_shards_and_another_threshold_asks_nothing(
    photos: Path, run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["predict", "photos", *run, "-o", "out.csv", "--set", "evaluate.runtime.shard_size=2"]
    result = sekd(*command)
    assert result.exit_code == 0, result.output
    assert "out.csv.run" in result.output
    before = rows_of(Path("out.csv"))
    monkeypatch.setattr(
        "sekd.stages.predict.run.Predictor", lambda *_: pytest.fail("a model is loaded")
    )
    result = sekd(*command, "--min-confidence", "1")
    assert result.exit_code == 0, result.output
    after = rows_of(Path("out.csv"))
    assert [row["leaf"] for row in after] == [row["leaf"] for row in before]
    assert [row["accepted_rank"] for row in after] != [row["accepted_rank"] for row in before]
    assert sekd("status", "out.csv.run").exit_code == 0
    assert sekd("verify", "out.csv.run").exit_code == 0


FORMS = ["table", "csv", "jsonl", "json", "o.csv", "o.xlsx", "o.parquet", "o.jsonl", "o.html"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_takes_several_paths_odd_names_and_errors(
    photos: Path, run: list[str], form: str
) -> None:
    good = str(next(iter(sorted(photos.glob("*.png")))))
    shutil.copy(good, "=odd [bold] ☃.png")
    inputs = [good, "=odd [bold] ☃.png", "photos/broken.jpg", "gone.png", "https://a.org/b.jpg"]
    options = {
        "json": ["--json"],
        "o.html": ["--html", form],
        **{name: ["--format", name] for name in ("table", "csv", "jsonl")},
    }.get(form, ["--output", form])
    for some in (inputs, inputs[2:]):
        result = sekd("predict", *some, *run, *options, "--top-k", "3", "--subtree", "bolonor")
        assert result.exit_code == 0, result.output
        assert "Traceback" not in result.output
        if form == "table":
            assert all(len(line) <= 80 for line in result.stdout.splitlines())
            assert "3 failed" in result.stdout
        elif form in ("csv", "jsonl", "json"):
            assert len(result.stdout.splitlines()) == len(some) + (form == "csv")
        else:
            assert Path(form).stat().st_size


def test_a_taxonomy_of_one_rank_is_enough(photos: Path, tiny_model: Path) -> None:
    Path("flat.csv").write_text("species\nbozulus\nbedonis\n", "utf-8")
    for way in ("--stepwise", "--single-pass"):
        result = sekd(
            *("predict", "photos", "--model", tiny_model, "--taxonomy", "flat.csv", way),
            *("--set", "model.dtype=float32", "--top-k", "5", "-o", "out.csv"),
        )
        assert result.exit_code == 0, result.output
        rows = rows_of(Path("out.csv"))
        assert {row["species"] for row in rows[:3]} <= {"bozulus", "bedonis"}
        probabilities = [float(rows[0][f"path_{n}_probability"]) for n in (1, 2)]
        assert sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--model", "./absent", "--taxonomy", "x.csv"], "x.csv: no such file or folder"),
        (["photos", "--model", "./absent"], "--model ./absent: no such folder"),
        (["photos", "--only", "absent.txt", "--run"], "--only absent.txt: no such file or folder"),
        (["photos"], "no model: name a run"),
        (["absent", "--run"], "absent: no such file or folder"),
        (["photos", "--output", "out.ods", "--run"], "a table is written as one of .csv"),
        (["photos", "--rank", "tribe", "--run"], "--rank tribe: no rank of"),
        (["photos", "--subtree", "Felidae", "--run"], "--subtree Felidae: no node of"),
        (["photos", "--adapter", "photos", "--run"], "no directory of a PEFT adapter"),
        (["photos", "--adapter", "photos"], "does not say which model it belongs to"),
        (["photos", "--run", "photos"], "no run of sekd and no config"),
    ],
)
def test_what_is_wrong_is_one_line(
    photos: Path, world: Path, arguments: list[str], message: str
) -> None:
    if arguments[-1] == "--run":
        arguments = [*arguments, str(world / "config.yaml")]
    result = sekd("predict", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
