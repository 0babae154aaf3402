"""Every fault of a file of predictions is refused, and named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prediction_files import read, write

from sekd.errors import ConfigError

FAULTS = {
    "rows without a sample_id: 1 (line 2)": [("", 1, "z", "z")],
    f"0 (the root) to 2: 3 (line 2: level '3'; line 3: level 'two'; line 4: level '{10**20}')": [
        ("1", 3, "z", "z"),
        ("1", "two", "z", "z"),
        ("1", 10**20, "z", "z"),
    ],
    "rows of samples without a truth: 1 (line 2)": [("1", 1, "", "z")],
    "that give a sample's level again: 1 (line 3: sample '1', level 1)": [
        ("1", 1, "z", "z"),
        ("1", 1, "z", "x"),
    ],
    "not in taxonomy at their level: 2 (line 2: 'zz' at level 1; did you mean 'z'?; line 3": [
        ("1", 1, "zz", "z"),
        ("2", 1, "gnu", "z"),
    ],
    "lack a level: 2 (line 2: sample '1' has no truth at level 1; line 3": [
        ("1", 2, "a", "a"),
        ("2", 2, "b", "a"),
    ],
    "a level up: 1 (line 3: 'c' at level 2 is not below 'x' at level 1)": [
        ("1", 1, "x", "x"),
        ("1", 2, "c", "c"),
    ],
    "that end above a leaf: 1 (line 2: sample '1' ends with 'x' at level 1)": [("1", 1, "x", "x")],
}


def test_a_sample_of_the_root_alone_lacks_a_level(tmp_path: Path) -> None:
    names = ["sample_id", "level", "truth", "prediction"]
    path = write(tmp_path / "p.csv", names, [("1", 0, "r", "r"), ("2", 1, "z", "z")])
    with pytest.raises(ConfigError, match=r"\(line 2: sample '1' has no truth at level 1\)"):
        read(path)


@pytest.mark.parametrize("message", FAULTS)
def test_faults_that_leave_no_score_are_refused(tmp_path: Path, message: str) -> None:
    names = ["sample_id", "level", "truth", "prediction"]
    with pytest.raises(ConfigError) as raised:
        read(write(tmp_path / "p.csv", names, FAULTS[message]))
    assert message in str(raised.value)
    assert str(raised.value).count(" (line ") == 1  # and nothing else is made of it


def test_all_kinds_of_faults_are_listed_at_once(tmp_path: Path) -> None:
    rows = [
        (f"{kind}{row[0]}", *row[1:]) for kind, rows in enumerate(FAULTS.values()) for row in rows
    ]
    names = ["sample_id", "level", "truth", "prediction"]
    with pytest.raises(ConfigError) as raised:
        read(write(tmp_path / "p.csv", names, rows))
    assert str(raised.value).count(" (line ") == len(FAULTS) - 1  # every sample has an id now


def test_lines_are_counted_as_in_the_file(tmp_path: Path) -> None:
    bad = 'sample_id,level,truth,prediction\n\n"a\nb",1,z,z\n\n2,1,gnu,z\n'
    (tmp_path / "p.csv").write_text(bad, encoding="utf-8-sig")
    with pytest.raises(ConfigError, match=r"\(line 6: 'gnu'"):
        read(tmp_path / "p.csv")
    good = {"sample_id": "1", "truth": ["z"], "prediction": None}
    lines = ["", json.dumps(good), "", json.dumps(good | {"sample_id": "2", "truth": ["gnu"]})]
    (tmp_path / "p.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\(line 4: 'gnu'"):
        read(tmp_path / "p.jsonl")
    path = write(tmp_path / "p.parquet", list(good), [("1", ["z"], ["z"]), ("2", ["gnu"], ["z"])])
    with pytest.raises(ConfigError, match=r"\(row 2: 'gnu'"):
        read(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "", r"p\.txt: a table ends in one of \.csv, \.tsv"),
        ("p.csv", "", "no row of predictions"),
        ("p.csv", "sample_id,truth\n1,z\n", "no column 'prediction'"),
        ("p.csv", "sample_id,truth,prediction\n", "no row of predictions"),
        ("p.csv", "sample_id,truth,prediction", "no row of predictions"),
        ("p.csv", "truth,truth\n", "line 1: two columns of one name"),
        ("p.csv", "sample_id,truth,prediction\n1,z,z\n2,z\n", "line 3: 2 cells under 3 columns"),
        ("p.jsonl", "", "no row of predictions"),
        ("p.jsonl", '{"sample_id": 1}\n{', "line 2: not JSON"),
        ("p.jsonl", "[]", "line 1: expected an object, got list"),
        (
            "p.jsonl",
            '{"sample_id": 1, "prediction": "z", "truth": {"a": 1}}',
            'line 1: truth is {"a": 1}; give a text or a list',
        ),
        ("p.parquet", "PAR", "not a Parquet file"),
        (
            "p.jsonl",
            '{"sample_id": 1, "level": 1, "truth": ["z"], "prediction": ["z"]}',
            "truth is a list in a table with a column level",
        ),
        (
            "p.csv",
            "sample_id,truth,prediction\n1,z,z\n1,z,z\n",
            r"that give a sample again: 1 \(line 3: sample '1'\)",
        ),
        (
            "p.csv",
            "sample_id,truth,prediction\n1,gnu,z\n",
            "'gnu' at level 1; a path is a list of names or of node ids, such a list as JSON",
        ),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read(path)
    with pytest.raises(ConfigError, match="no such file"):
        read(tmp_path / f"absent-{name}")
