"""Tables for other programs: what pandas, polars, DuckDB and openpyxl read from them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sekd.errors import ConfigError
from sekd.io import table_writers
from sekd.io.table_writers import check_writable, text_writer, write_rows

SCHEMA = pa.schema({"image": pa.string(), "p": pa.float64(), "ok": pa.bool_(), "why": pa.string()})
ROWS: list[dict[str, Any]] = [
    {"image": "a, b.jpg", "p": 0.1 + 0.2, "ok": True, "why": None},
    {"image": '=HYPERLINK("x")', "p": None, "ok": False, "why": 'line "one"\nline two'},
    {"image": "grüße/雀.png", "p": 1e-12, "ok": True, "why": ""},
]


@pytest.mark.parametrize("suffix", table_writers.TABLE_WRITERS)
def test_other_tools_read_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    assert write_rows(path, SCHEMA, iter(ROWS)) == 3
    frames = {
        ".csv": [pd.read_csv, pl.read_csv, lambda p: duckdb.read_csv(str(p)).df()],
        ".tsv": [lambda p: pd.read_csv(p, sep="\t"), lambda p: pl.read_csv(p, separator="\t")],
        ".jsonl": [lambda p: pd.read_json(p, lines=True), pl.read_ndjson],
        ".parquet": [pd.read_parquet, pl.read_parquet],
        ".xlsx": [pd.read_excel],
    }[suffix]
    for read in frames:
        frame = read(path)
        assert list(frame["image"]) == [row["image"] for row in ROWS]
        first, _, last = frame["p"]
        assert [first, last] == pytest.approx([0.1 + 0.2, 1e-12], rel=1e-15)
        assert list(frame["ok"]) == [True, False, True]
        assert list(frame["why"])[1] == ROWS[1]["why"]


def test_a_sheet_runs_no_name_as_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    rows = [ROWS[1], {**ROWS[0], "image": "bell\x07"}]
    write_rows(path, SCHEMA, rows)
    sheet = openpyxl.load_workbook(path).active
    assert sheet["A2"].data_type == "s"
    assert sheet["A2"].value == '=HYPERLINK("x")'
    assert sheet["A3"].value == "bell\N{REPLACEMENT CHARACTER}"


def test_a_sheet_has_no_more_rows_than_excel_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_writers, "_XLSX_ROWS", 2)
    with pytest.raises(ConfigError, match="at most 2 rows; write CSV or Parquet"):
        write_rows(tmp_path / "table.xlsx", SCHEMA, ROWS)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_breaks_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("as it was", "utf-8")

    def rows() -> Any:
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(path, SCHEMA, rows())
    assert path.read_text("utf-8") == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"written as one of \.csv, \.tsv, \.jsonl, \.parquet"):
        check_writable(tmp_path / "table.ods")
    with pytest.raises(ConfigError, match="there is no folder"):
        check_writable(tmp_path / "absent" / "table.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        check_writable(tmp_path / "folder.csv")


def test_rows_are_streamed_as_text() -> None:
    file = io.StringIO()
    write = text_writer(file, SCHEMA, ".jsonl")
    for row in ROWS:
        write(row)
    assert [json.loads(line) for line in file.getvalue().splitlines()] == ROWS
