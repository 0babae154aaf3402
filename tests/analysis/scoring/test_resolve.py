"""Files of predictions: two layouts, three formats, names or ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_files import only_cell, read, shown, write

from sekd.analysis.scoring.files import FileOptions
from sekd.analysis.scoring.resolve import resolve_predictions
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

ROWS = [
    ("1", 1, "x", "x"),
    ("1", 2, "a", "c"),
    ("2", 2, "a", ""),
    ("2", 1, "y", "y"),
    ("3", 1, "z", "x"),
]
PATHS = {"1": ("r/x r/x/a", "r/x r/y/c"), "2": ("r/y r/y/a", "r/y -"), "3": ("r/z", "r/x")}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_row_may_be_a_level_in_every_format(tmp_path: Path, kind: str) -> None:
    names = ["sample_id", "level", "truth", "prediction"]
    assert only_cell(write(tmp_path / f"p.{kind}", names, ROWS)) == PATHS
    numbered = [(int(sample), *rest) for sample, *rest in ROWS]
    assert only_cell(write(tmp_path / f"n.{kind}", names, numbered)) == PATHS
    ids = {"x": "r/x", "y": "r/y", "z": "r/z", "": None}
    by_id = [
        (
            sample,
            level,
            ids.get(truth, f"{PATHS[sample][0].split()[0]}/a"),
            ids.get(answer, "r/y/c"),
        )
        for sample, level, truth, answer in ROWS
    ]
    assert only_cell(write(tmp_path / f"i.{kind}", names, by_id)) == PATHS


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_row_may_be_a_path_in_every_format(tmp_path: Path, kind: str) -> None:
    names = ["sample_id", "truth", "prediction"]
    lists: list[tuple[str, Any, Any]] = [
        ("1", ["x", "a"], ["X ", "c"]),
        ("2", ["y", "a"], ["y", None]),
        ("3", ["z"], ["x", "b"]),  # what lies below the truth's last level is not looked at
    ]
    as_json = [(i, json.dumps(truth), json.dumps(answer)) for i, truth, answer in lists]
    assert only_cell(write(tmp_path / f"j.{kind}", names, as_json)) == PATHS
    if kind != "csv":
        assert only_cell(write(tmp_path / f"l.{kind}", names, lists)) == PATHS
    from_root = [
        (i, json.dumps(["R", *truth]), json.dumps(["r", *answer])) for i, truth, answer in lists
    ]
    assert only_cell(write(tmp_path / f"r.{kind}", names, from_root)) == PATHS
    leaves = [("1", "a", "c"), ("2", "a of y", "r/y"), ("3", "r/z", "gnu"), ("4", "z", "")]
    assert only_cell(write(tmp_path / f"n.{kind}", names, leaves)) == {
        "1": ("r/x r/x/a", "r/y r/y/c"),
        "2": ("r/y r/y/a", "r/y -"),
        "3": ("r/z", "?"),
        "4": ("r/z", "-"),
    }


def test_a_name_of_several_nodes_is_the_one_below_its_own_parent(tmp_path: Path) -> None:
    def predicted(*answers: str) -> str:
        rows = [
            ("1", level, truth, answer)
            for level, truth, answer in zip((1, 2), "xa", answers, strict=True)
        ]
        path = write(tmp_path / "p.jsonl", ["sample_id", "level", "truth", "prediction"], rows)
        return only_cell(path)["1"][1]

    assert predicted("x", "a") == "r/x r/x/a"
    assert predicted("y", "a") == "r/y r/y/a"  # wrong, by its own path
    assert predicted("z", "a") == "r/z r/x/a"  # not below z: the right one, off the tree
    assert predicted("", "a") == "- r/x/a"


def test_unknown_predictions_are_wrong_and_warned_of_with_their_lines(tmp_path: Path) -> None:
    rows = [
        *ROWS[:2],
        ("2", 1, "y", "gnu"),
        ("2", 2, "a", "x"),
        *[(f"s{i}", 1, "z", "NA") for i in range(5)],
    ]
    path = write(tmp_path / "p.csv", ["sample_id", "level", "truth", "prediction"], rows)
    with pytest.raises(ConfigError, match=r"that is 78 % of the answers: check the taxonomy"):
        read(path)
    answers = read(path, options=FileOptions(allows_unknown=True))
    (cell,) = answers.cells
    assert shown(cell)["2"] == ("r/y r/y/a", "? ?")
    assert cell.num_unknown == 7
    (warning,) = answers.warnings
    assert (
        "counted as wrong: 7 (line 4: 'gnu' at level 1; line 5: 'x' at level 2; line 6" in warning
    )
    assert warning.endswith("and 4 more)")


def test_cells_are_resolved_apart(tmp_path: Path) -> None:
    names = ["model", "paradigm", "sample_id", "level", "truth", "prediction"]
    rows = [("student", "joint", *row) for row in ROWS]
    rows += [
        ("base", paradigm, "1", level, truth, truth)
        for paradigm in ("joint", "steps")
        for level, truth in ((2, "c"), (1, "y"))
    ]
    path = write(tmp_path / "p.parquet", names, rows)
    cells = {str(cell): cell for cell in read(path).cells}
    assert list(cells) == ["student joint", "base joint", "base steps"]
    assert shown(cells["student joint"]) == PATHS
    assert shown(cells["base steps"]) == {"1": ("r/y r/y/c", "r/y r/y/c")}
    (cell,) = read(path, only={"model": "base", "paradigm": "joint"}).cells
    assert cell.names == {"model": "base", "paradigm": "joint"}
    for only, message in (
        ({"model": "gnu"}, "no row of model 'gnu'; there are base, student"),
        ({"dataset": "gnu"}, "no column 'dataset'"),
        ({"model": "student", "paradigm": "steps"}, "no row of paradigm 'steps'; there are joint"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(path, only=only)


def test_cells_may_come_in_any_order(tmp_path: Path) -> None:
    cells = [("m", "one", "a"), ("n", "two", "b"), ("m", "three", "c")]
    rows = [(model, dataset, "1", leaf, leaf) for model, dataset, leaf in cells]
    names = ["model", "dataset", "sample_id", "truth", "prediction"]
    for cell, (*found, leaf) in zip(
        read(write(tmp_path / "p.csv", names, rows)).cells, cells, strict=True
    ):
        assert list(cell.names.values()) == found
        assert shown(cell)["1"][0].endswith(leaf)


def test_of_names_that_differ_in_case_the_one_as_written_is_meant(tmp_path: Path) -> None:
    tree = Taxonomy.from_paths({"one": ["r", "Q", "q1"], "two": ["r", "q", "q2"]})
    rows = [("1", "q1", "q"), ("2", "q2", "Q")]
    levels = [
        row
        for sample, leaf, top in rows
        for row in ((sample, 1, {"q1": "Q", "q2": "q"}[leaf], top), (sample, 2, leaf, leaf))
    ]
    path = write(tmp_path / "p.csv", ["sample_id", "level", "truth", "prediction"], levels)
    (cell,) = resolve_predictions(path, tree).cells
    assert shown(cell) == {"1": ("r/Q r/Q/q1", "r/q r/Q/q1"), "2": ("r/q r/q/q2", "r/Q r/q/q2")}


def test_a_list_may_start_with_a_node_of_the_roots_name(tmp_path: Path) -> None:
    tree = Taxonomy.from_paths({"a": ["r", "r", "a"], "b": ["r", "r", "b"]})
    path = write(
        tmp_path / "p.csv", ["sample_id", "truth", "prediction"], [("1", '["r", "a"]', '["r"]')]
    )
    (cell,) = resolve_predictions(path, tree).cells
    assert shown(cell) == {"1": ("r/r r/r/a", "r/r -")}


def test_the_root_is_scored_on_request(tmp_path: Path) -> None:
    names = ["sample_id", "level", "truth", "prediction"]
    rows = [("1", 0, "r", ""), ("1", 1, "z", "z")]
    path = write(tmp_path / "p.csv", names, rows)
    assert only_cell(path) == {"1": ("r/z", "r/z")}
    (cell,) = read(path, score_root=True).cells
    assert shown(cell) == {"1": ("r r/z", "- r/z")}
    assert cell.paths.first_level == 0
    with pytest.raises(ConfigError, match="sample '1' has no truth at level 0"):
        read(write(tmp_path / "q.csv", names, rows[1:]), score_root=True)
    lists = [("1", '["r", "z"]', '["r", "x"]')]
    path = write(tmp_path / "l.csv", ["sample_id", "truth", "prediction"], lists)
    assert only_cell(path, score_root=True) == {"1": ("r r/z", "r r/x")}
    rootless = Taxonomy.from_paths({"a": ["x", "a"], "b": ["y", "b"]})
    with pytest.raises(ConfigError, match="share no root"):
        resolve_predictions(path, rootless, score_root=True)


def test_a_line_break_in_a_cell_is_no_new_row(tmp_path: Path) -> None:
    """Arrow reads a CSV in blocks of a megabyte, which must not end inside a cell."""
    ids = [f"image\n{i}\nof a {'long' * 20} name" for i in range(20_000)]
    rows = [(sample, "z", "z") for sample in ids]
    path = write(tmp_path / "p.csv", ["sample_id", "truth", "prediction"], rows)
    (cell,) = read(path).cells
    assert cell.paths.sample_ids.to_pylist() == ids


def test_jsonl_columns_may_be_of_two_kinds(tmp_path: Path) -> None:
    rows = [
        {"sample_id": 1, "truth": ["z"], "prediction": "r/z", "extra": {}},
        {"sample_id": "02", "prediction": ["x", "b"], "truth": '["x", "b"]', "extra": 3},
        {"sample_id": "2024-01-01", "prediction": None, "truth": "b"},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert only_cell(path) == {
        "1": ("r/z", "r/z"),
        "02": ("r/x r/x/b", "r/x r/x/b"),
        "2024-01-01": ("r/x r/x/b", "- -"),
    }


LEAVES = st.sampled_from(["r/x/a", "r/x/b", "r/y/c", "r/y/a", "r/z"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(LEAVES, LEAVES), min_size=1, max_size=8), st.randoms())
def test_both_layouts_give_the_same_paths(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], rng: Any
) -> None:
    folder = tmp_path_factory.mktemp("p")
    levels, paths = [], []
    for sample, pair in enumerate(pairs):
        truth, answer = (leaf.split("/")[1:] for leaf in pair)
        paths.append((sample, truth, answer))
        for level, name in enumerate(truth, start=1):
            levels.append(
                (sample, level, name, answer[level - 1] if level <= len(answer) else None)
            )
    rng.shuffle(levels)
    by_level = only_cell(
        write(folder / "a.jsonl", ["sample_id", "level", "truth", "prediction"], levels)
    )
    by_path = only_cell(write(folder / "b.parquet", ["sample_id", "truth", "prediction"], paths))
    assert by_level == by_path
