"""`sekd taxonomy` and `sekd data match`, as a person and as a program uses them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import layouts
import pytest
import yaml
from command_line import sekd

from sekd.data.taxonomy import Taxonomy

PATHS = {
    "crow": ["bird", "passerines", "corvids", "crow"],
    "raven": ["bird", "passerines", "corvids", "raven"],
    "owl": ["bird", "owls", "owl"],
    "corvids": ["bird", "parrots", "corvids"],
    "Red": ["bird", "parrots", "Red"],
    "red_": ["bird", "parrots", "red_"],
    "owls": ["bird", "owls"],
}


@pytest.fixture
def taxonomy(tmp_path: Path) -> Path:
    path = tmp_path / "birds.json"
    path.write_text(json.dumps(PATHS), encoding="utf-8")
    return path


def test_check_shows_the_shape_and_what_is_suspicious(taxonomy: Path) -> None:
    result = sekd("taxonomy", "check", taxonomy)
    assert result.exit_code == 0, result.stderr
    lines = result.output.splitlines()
    assert lines[0] == f"{taxonomy}: 7 leaves, 1 to 3 levels below the root"
    assert lines[2].split()[-3:] == ["3,", "1", "leaves"]
    assert all(len(line) <= 80 for line in lines[1:])
    check = json.loads(sekd("taxonomy", "check", taxonomy, "--json").output)
    assert [level["num_nodes"] for level in check["levels"]] == [3, 5, 2]
    assert [(found["kind"], found["name"]) for found in check["suspicions"]] == [
        ("one name, two parents", "corvids"),
        ("nearly one name", "Red"),
        ("leaf with children", "owls"),
    ]


def test_check_finds_ranks_at_several_depths(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\nx,y,z\nx,,w\n")
    check = json.loads(sekd("taxonomy", "check", tmp_path / "t.csv", "--json").output)
    assert check["suspicions"] == [
        {"kind": "rank at several depths", "name": "c", "places": ["1", "2"]}
    ]


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_a_converted_taxonomy_is_the_same(taxonomy: Path, suffix: str) -> None:
    target = taxonomy.with_name(f"converted{suffix}")
    result = sekd("taxonomy", "convert", taxonomy, target, "--json")
    assert json.loads(result.output) == {"output": str(target), "num_leaves": 7}
    before, after = Taxonomy.load(taxonomy), Taxonomy.load(target)
    assert [node.id for node in before.nodes] == [node.id for node in after.nodes]
    assert before.leaf_ids == after.leaf_ids


def test_convert_keeps_ranks_and_common_names_in_csv(tmp_path: Path) -> None:
    root = layouts.write_inat21(tmp_path / "inat")
    target = tmp_path / "t.csv"
    assert sekd("taxonomy", "convert", root / "val.json", target).exit_code == 0
    rows = list(csv.DictReader(target.open(encoding="utf-8")))
    assert rows[0]["species"] == "Corvus corax"
    assert rows[0]["common_name"] == "Common Raven"
    both = Taxonomy.load(target, leaf_names="both")
    assert both.leaf("Corvus corax").name == "Common Raven (Corvus corax)"


def test_convert_takes_the_leaves_that_a_text_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("parent,child\na,b\nb,c\na,d\nd,c\nd,e\n")
    (tmp_path / "only.txt").write_text("c\n")
    arguments = ("taxonomy", "convert", tmp_path / "t.csv", tmp_path / "t.json")
    result = sekd(*arguments)
    assert result.exit_code == 2
    assert "the edges 'b' > 'c' and 'd' > 'c'" in result.stderr
    options = ("--only", tmp_path / "only.txt", "--several-parents", "first")
    assert sekd(*arguments, *options).exit_code == 0
    assert json.loads((tmp_path / "t.json").read_text()) == {"c": ["a", "b", "c"]}
    (tmp_path / "only.txt").write_text("c\nx\n")
    assert "1 of 2 leaves are not in it: 'x'" in sekd(*arguments, *options).stderr


@pytest.mark.parametrize("arguments", [("check", "missing.json"), ("convert", "a.json", "b.doc")])
def test_what_cannot_be_read_or_written_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "a.json").write_text('{"a": ["x", "a"]}')
    command, *names = arguments
    result = sekd("taxonomy", command, *(tmp_path / name for name in names))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.fixture
def config(tmp_path: Path) -> Path:
    root = layouts.write_cub(tmp_path / "CUB_200_2011")
    content = {
        "run_dir": str(tmp_path / "run"),
        "model": {"path": "x"},
        "data": {
            "train": {
                "images": str(root),
                "layout": "cub200",
                "taxonomy": str(tmp_path / "taxonomy.json"),
            }
        },
    }
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "my.yaml"


def test_match_lists_every_class_and_writes_the_alias_file(config: Path, tmp_path: Path) -> None:
    aliases = tmp_path / "aliases.csv"
    result = sekd("data", "match", config, "train", "--output", aliases)
    assert result.exit_code != 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "train: 3 classes with 4 labelled images" in lines
    assert "1  leading number" in lines
    assert "2  unmatched" in lines
    assert "3  leaves without a class" in lines
    assert "023.Brandt_Cormorant (near: Brandt's Cormorant)" in lines
    assert all(len(line) <= 80 for line in lines)
    text = aliases.read_text()
    aliases.write_text(text.replace("Cormorant,,", "Cormorant,Brandt's Cormorant,"))
    setting = f"data.train.aliases={aliases}"
    again = sekd("data", "match", config, "--set", setting, "--json")
    (report,) = json.loads(again.stdout).values()
    assert report["num_classes_by_step"] == {
        "leading number": 1,
        "alias file": 1,
        "unmatched": 1,
    }
    kept = list(csv.DictReader(aliases.open()))
    assert [row["leaf"] for row in kept] == ["Brandt's Cormorant", ""]
    aliases.write_text(aliases.read_text().replace("Tern,,", "Tern,-,"))
    assert sekd("data", "match", config, "--set", setting).exit_code == 0


def test_a_wrong_leaf_in_the_alias_file_is_named(config: Path, tmp_path: Path) -> None:
    (tmp_path / "aliases.csv").write_text("class,leaf\n141.Artic_Tern,Arctic Turn\n")
    result = sekd("data", "match", config, "--set", f"data.train.aliases={tmp_path}/aliases.csv")
    assert result.exit_code == 2
    assert "class '141.Artic_Tern': no leaf 'Arctic Turn'" in result.stderr
