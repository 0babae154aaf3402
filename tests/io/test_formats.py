"""Tables as other programs write them: the same rows in every format, every fault by its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.errors import ConfigError
from sekd.io.formats import TableFile

ROWS = [
    {"id": "007", "name": "Brandt's cormorant"},
    {"id": "2024-01-01", "name": 'a, "b"; c'},
    {"id": "ö", "name": "Rüppell|x"},
]


def _text(delimiter: str, **options: Any) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(ROWS[0]), delimiter=delimiter, **options)
    writer.writeheader()
    writer.writerows(ROWS)
    return buffer.getvalue()


def _write_xlsx(path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]:
        book.worksheets[0].append(row)
    book.save(path)


def _compress_zst(path: Path, text: str) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(text.encode())


WRITERS: dict[str, Callable[[Path], object]] = {
    "t.csv": lambda path: path.write_text(_text(","), "utf-8"),
    "t.tsv": lambda path: path.write_text(_text("\t"), "utf-8"),
    "quoted.tsv": lambda path: pd.DataFrame(ROWS).to_csv(path, sep="\t", index=False, quoting=1),
    "excel.csv": lambda path: path.write_text(_text(";"), "utf-8-sig"),
    "german.csv": lambda path: path.write_bytes(_text(";").encode("cp1252")),
    "unicode.csv": lambda path: path.write_bytes(_text("\t").encode("utf-16")),
    "t.jsonl": lambda path: pd.DataFrame(ROWS).to_json(path, orient="records", lines=True),
    "t.ndjson": lambda path: path.write_text("\n\n".join(map(json.dumps, ROWS)), "utf-8"),
    "list.json": lambda path: path.write_text(json.dumps(ROWS), "utf-8"),
    "index.json": lambda path: pd.DataFrame(ROWS).to_json(path),
    "split.json": lambda path: pd.DataFrame(ROWS).to_json(path, orient="split"),
    "columns.json": lambda path: path.write_text(json.dumps(pd.DataFrame(ROWS).to_dict("list"))),
    "wrapped.json": lambda path: path.write_text(json.dumps({"model": "m", "results": ROWS})),
    "t.csv.gz": lambda path: path.write_bytes(gzip.compress(_text(",").encode())),
    "t.jsonl.zst": lambda path: _compress_zst(path, "\n".join(map(json.dumps, ROWS))),
    "t.xlsx": _write_xlsx,
    "t.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "saved": lambda path: datasets.Dataset.from_list(ROWS).save_to_disk(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert [row for _, row in TableFile.open(tmp_path / name).rows()] == ROWS


def test_what_was_found_and_not_told_is_noted(tmp_path: Path) -> None:
    for name in ("excel.csv", "german.csv", "t.csv"):
        WRITERS[name](tmp_path / name)
    assert TableFile.open(tmp_path / "t.csv").notes == []
    (note,) = TableFile.open(tmp_path / "excel.csv").notes
    assert "divided by ';'" in note
    encoding_note, _ = TableFile.open(tmp_path / "german.csv").notes
    assert "cp1252" in encoding_note
    told = TableFile.open(tmp_path / "german.csv", encoding="latin-1", delimiter=";")
    assert told.notes == []
    assert [row for _, row in told.rows()] == ROWS


def test_rows_have_the_number_of_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('id\tname\n1\t"a\nb"\n\n2\tc\n')
    file = TableFile.open(path)
    assert [number for number, _ in file.rows()] == [3, 5]
    assert file.place(5) == f"{path}, line 5"


def test_classes_of_a_saved_dataset_are_given_by_name(tmp_path: Path) -> None:
    features = datasets.Features({"bird": datasets.ClassLabel(names=["robin", "wren"])})
    datasets.Dataset.from_dict({"bird": [1, 0]}, features=features).save_to_disk(tmp_path / "d")
    rows = [row for _, row in TableFile.open(tmp_path / "d").rows()]
    assert rows == [{"bird": "wren"}, {"bird": "robin"}]


def test_a_second_sheet_is_noted(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["id", None, "name"])
    book.worksheets[0].append([7, "x", "a"])
    book.create_sheet("notes")
    book.save(tmp_path / "t.xlsx")
    file = TableFile.open(tmp_path / "t.xlsx")
    assert list(file.rows()) == [(2, {"id": 7, "name": "a"})]
    assert "'notes'" in file.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b'id,name\n1,"a\n2,b\n3,c\n', "line 4: unexpected end of data; a quote"),
        ("t.csv", b'id,name\n1,"a\n2,b\n3,"c"\n', "line 4: ',' expected after '\"'"),
        ("t.csv", b"id,name\n1\n", "line 2: 1 cells under 2 columns"),
        ("t.csv", b"id,id\n1,2\n", "line 1: two columns of one name"),
        ("t.jsonl", b'{"a": 1}\nx\n', "line 2: not JSON"),
        ("t.jsonl", b"[1]\n", "line 1: expected an object, got list"),
        ("t.json", b"{", "not JSON"),
        ("t.json", b'{"a": "b"}', "no table"),
        ("t.json", b"[1]", "row 1: expected an object, got int"),
        ("t.xlsx", b"x", "not an XLSX file"),
        ("t.parquet", b"x", "cannot be read"),
        ("t.csv.gz", b"x", "cannot be read"),
        ("t.xls", b"", "a table ends in one of .csv, .tsv"),
    ],
)
def test_a_fault_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message.replace("'\"'", "'.'")) as caught:
        list(TableFile.open(tmp_path / name).rows())
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder without"):
        list(TableFile.open(tmp_path).rows())
    with pytest.raises(ConfigError, match="no such file"):
        TableFile.open(tmp_path / "t.csv")
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    splits.save_to_disk(tmp_path / "splits")
    with pytest.raises(ConfigError, match="several splits; name one: train"):
        list(TableFile.open(tmp_path / "splits").rows())
    assert len(list(TableFile.open(tmp_path / "splits" / "train").rows())) == len(ROWS)


@given(
    st.lists(
        st.fixed_dictionaries({"id": st.text(min_size=1), "name": st.text()}), min_size=1
    ).filter(lambda rows: all("\0" not in cell for row in rows for cell in row.values())),
    st.sampled_from([",", "\t", ";", "|"]),
)
def test_a_csv_of_any_delimiter_reads_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        writer = csv.DictWriter(file, ["id", "name"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    assert [row for _, row in TableFile.open(path).rows()] == rows
