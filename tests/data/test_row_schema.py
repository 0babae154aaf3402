"""Rows as dataclasses: the schemas of the files on disk, and rows that come back as written."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pytest

from sekd.data import predictions, signals
from sekd.data.row_schema import column, row_of, schema_of, table_of

SCHEMAS = {
    "transcripts": (
        signals.TRANSCRIPT_SCHEMA,
        "sample_id: string, transcript: int16, image: string, image_sha256: string, "
        "token_ids: list<item: int32>, learned: list<item: bool>",
    ),
    "answers": (
        signals.ANSWER_SCHEMA,
        "sample_id: string, level: int16, rank: string, options: list<item: string>, "
        "answer: string, transcript: int16, position: int32, letter_ids: list<item: int32>, "
        "option_logprobs: list<item: float>, mean_logprobs: list<item: float>, "
        "option_mass: float, confidence: float, num_prompt_tokens: int32, "
        "num_cached_tokens: int32, truth: string or null",
    ),
    "state rows": (
        signals.STATE_ROW_SCHEMA,
        "sample_id: string, level: int16, row: int32, option_logprobs: list<item: float>, "
        "top_ids: list<item: int32>, top_logprobs: list<item: float>, tail_mass: float",
    ),
    "predictions": (
        predictions.PREDICTION_SCHEMA,
        "model: string, dataset: string, paradigm: string, control: string, rotation: int16, "
        "sample_id: string, level: int16, rank: string, options: list<item: string>, "
        "truth: string, prediction: string or null, option_logprobs: list<item: float> or null, "
        "reply: string or null, path_logprob: float or null, "
        "paths: list<item: struct<node: string, probability: float>> or null",
    ),
}
"""Pinned: files of earlier runs have these columns, in this order."""


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_columns_on_disk_stay_as_they_are(name: str) -> None:
    schema, expected = SCHEMAS[name]
    columns = [
        f"{field.name}: {field.type}{' or null' if field.nullable else ''}" for field in schema
    ]
    assert ", ".join(columns) == expected


@dataclass(frozen=True)
class Score:
    name: str = column(pa.string())
    parts: tuple[int, ...] | None = column(pa.list_(pa.int32()), nullable=True, read=tuple)
    weight: float = column(pa.float32(), default=0.5)

    @property
    def total(self) -> int:
        return sum(self.parts or ())


@pytest.mark.parametrize(
    ("before", "names"),
    [
        (None, ["name", "parts", "weight", "total"]),
        ("parts", ["name", "total", "parts", "weight"]),
    ],
)
def test_rows_come_back_as_they_were_written(before: str | None, names: list[str]) -> None:
    schema = schema_of(Score, derived={"total": pa.int32()}, before=before)
    assert schema.names == names
    rows = [Score("a", (1, 2)), Score("b", None, 1.0), Score("c", ())]
    table = table_of(rows, schema)
    assert table.schema == schema
    assert table["total"].to_pylist() == [3, 0, 0]
    assert [row_of(Score, cells) for cells in table.to_pylist()] == rows
