"""Tables in three formats: the same rows by chunk and by column, and every fault by its line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sekd.errors import ConfigError
from sekd.io import tables
from sekd.io.tables import TABLE_SUFFIXES, column_names, read_chunks, read_columns, row_units

ROWS = [{"id": "007", "text": "a, b"}, {"id": "2024-01-01", "text": 'a "c"\nd'}, {"id": "ö"}]

each_format = pytest.mark.parametrize("suffix", TABLE_SUFFIXES)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The number and the cells of every row."""
    return [
        (number, chunk.row(index))
        for chunk in read_chunks(path)
        for index, number in enumerate(chunk.numbers)
    ]


@each_format
@pytest.mark.parametrize("rows_per_chunk", [1, 2, 3, 100])
def test_chunks_hold_every_row_once_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, rows_per_chunk: int
) -> None:
    monkeypatch.setattr(tables, "_ROWS_PER_CHUNK", rows_per_chunk)
    path = write(tmp_path / f"t{suffix}", ROWS)
    numbers, rows = zip(*read_rows(path), strict=True)
    missing = {".csv": {"text": ""}, ".jsonl": {}, ".parquet": {"text": None}}[suffix]
    assert list(rows) == [*ROWS[:2], ROWS[2] | missing]
    # In a CSV a row has the line on which it ends; the second one has a line break in a cell.
    assert list(numbers) == ([2, 4, 5] if suffix == ".csv" else [1, 2, 3])
    assert all(len(chunk.numbers) <= rows_per_chunk for chunk in read_chunks(path))


@each_format
def test_columns_are_read_whole_and_as_written(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", ROWS)
    assert column_names(path) == ["id", "text"]
    table = read_columns(path, ["text", "id"], encoded=["text"])
    assert table["id"].to_pylist() == [row["id"] for row in ROWS]
    assert table["text"].to_pylist() == [row.get("text") for row in ROWS]
    assert pa.types.is_dictionary(table["text"].type) == (suffix != ".jsonl")
    assert read_columns(path, ["id"]).column_names == ["id"]


@each_format
def test_rows_are_named_alike_by_position_and_by_chunk(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", ROWS)
    (chunk,) = read_chunks(path)
    units = row_units(path, [0, 1, 2])
    assert [f"{path}, {unit}" for unit in units] == [chunk.place(index) for index in range(3)]
    assert row_units(path, [2]) == units[2:]
    assert row_units(path, []) == []


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("t.csv", "\ufeffid,text\n\n1,a\n\n\n2,b\n", [3, 6]),
        ("t.csv", '\n"id","text"\n1,a\n2,b', [3, 4]),  # a blank line above the header
        ("t.jsonl", '\ufeff{"id": "1", "text": "a"}\n\n \n{"id": "2", "text": "b"}\n', [1, 4]),
    ],
)
def test_blank_lines_and_byte_order_marks_are_no_rows(
    tmp_path: Path, name: str, text: str, numbers: list[int]
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    rows = [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    assert read_rows(path) == list(zip(numbers, rows, strict=True))
    assert read_columns(path, ["id", "text"]).to_pylist() == rows
    assert row_units(path, [0, 1]) == [f"line {number}" for number in numbers]


@pytest.mark.parametrize("text", ["", "id,text", "id,text\n", "\n\nid,text\n\n"])
def test_a_csv_without_rows_has_its_columns_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    assert read_rows(path) == []
    assert column_names(path) == (["id", "text"] if text else [])
    if text:
        assert read_columns(path, ["id"]).to_pydict() == {"id": []}


def texts(name: str, **settings: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> list[str]:
        return [text for chunk in read_chunks(path) for text in chunk.texts(name, **settings)]

    return read


def filled(path: Path) -> list[str]:
    return [text for chunk in read_chunks(path) for text in chunk.filled_texts("a")]


def test_texts_are_stripped_and_whole_numbers_are_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"a": " x "}, {"a": 7}, {"a": None}, {"b": "y"}])
    assert texts("a", is_optional=True)(path) == ["x", "7", "", ""]
    with pytest.raises(ConfigError, match=rf"{path}, line 4: no column 'a'; there are b"):
        texts("a")(path)
    for cell, kind in (({}, "dict"), (True, "bool"), (0.5, "float")):
        write(path, [{"a": "x"}, {"a": cell}])
        with pytest.raises(ConfigError, match=rf"{path}, line 2: a must be text, not {kind}"):
            texts("a")(path)


@each_format
def test_an_empty_cell_is_refused_where_it_must_be_filled(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", [{"a": "x", "b": "y"}, {"a": " ", "b": "z"}])
    place = "row 2" if suffix == ".parquet" else "line 3" if suffix == ".csv" else "line 2"
    with pytest.raises(ConfigError, match=rf"{path}, {place}: the column 'a' is empty"):
        filled(path)


def test_selected_rows_keep_their_numbers(tmp_path: Path) -> None:
    (chunk,) = read_chunks(write(tmp_path / "t.csv", [{"a": text} for text in "xyz"]))
    selected = chunk.select([True, False, True])
    assert (selected.numbers, selected.texts("a")) == ([2, 4], ["x", "z"])
    assert selected.place(1) == f"{tmp_path / 't.csv'}, line 4"


def stream(path: Path) -> object:
    return list(read_chunks(path))


def read_whole(path: Path) -> object:
    return read_columns(path, column_names(path))


@pytest.mark.parametrize("read", [stream, read_whole])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"a,b\n1,2\n\n3\n", "{path}, line 4: 1 cells under 2 columns"),
        ("t.csv", b"a, a\n1,2\n", "{path}, line 1: two columns of one name"),
        ("t.csv", b"\na,a\n1,2\n", "{path}, line 2: two columns of one name"),
        ("t.csv", "a,b\n1,ü\n".encode("latin-1"), "{path}: not a CSV file in UTF-8"),
        ("t.jsonl", b'{"a": 1}\n\n{"a": \n', "{path}, line 3: not JSON in UTF-8"),
        ("t.jsonl", b'{"a": "\xff"}', "{path}, line 1: not JSON in UTF-8"),
        ("t.jsonl", b"[1]", "{path}, line 1: expected an object, got list"),
        ("t.parquet", b"PAR1", "{path}: not a Parquet file"),
    ],
)
def test_both_readers_refuse_the_same_files_alike(
    tmp_path: Path, read: Callable[[Path], object], name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read(path)
    assert str(raised.value).startswith(message.format(path=path))


def test_an_open_quote_is_refused_with_its_line(tmp_path: Path) -> None:
    """It would swallow the rows after it."""
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,2\n3,"4\n5,6\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{path}, line 4: not a CSV file in UTF-8: .*end of"):
        stream(path)


@each_format
@pytest.mark.parametrize("read", [stream, read_whole])
def test_a_file_that_cannot_be_opened_is_refused(
    tmp_path: Path, suffix: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / f"missing{suffix}"
    with pytest.raises(ConfigError, match=f"{path}: .*No such file"):
        read(path)


def test_jsonl_columns_of_one_kind_keep_it_and_others_are_text(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write(path, [{"a": 1, "b": ["x", None]}, {"a": None, "b": []}])
    table = read_columns(path, ["a", "b"])
    assert table.schema.types == [pa.int64(), pa.list_(pa.string())]
    write(path, [{"a": 1, "b": ["x"]}, {"a": "02", "b": "y"}, {"b": None}])
    assert read_columns(path, ["a", "b"]).to_pydict() == {
        "a": ["1", "02", None],
        "b": ['["x"]', "y", None],
    }
    write(path, [{"a": "x"}, {"a": True}])
    with pytest.raises(ConfigError, match=rf"{path}, line 2: a is true; give a text or a list"):
        read_columns(path, ["a"])


def test_a_kind_that_changes_below_the_peeked_lines_is_read_all_the_same(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": number} for number in range(tables._PEEKED_LINES)]
    path = write(tmp_path / "t.jsonl", [*rows, {"a": "x"}])
    assert read_columns(path, ["a"])["a"].to_pylist()[-2:] == [str(len(rows) - 1), "x"]
