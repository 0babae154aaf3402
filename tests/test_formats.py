"""docs/formats.md is held to the schemas in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from sekd.data import predictions, signals

TEXT = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
SCHEMAS = [
    ("transcripts.parquet", signals.TRANSCRIPT_SCHEMA),
    ("answers.parquet", signals.ANSWER_SCHEMA),
    ("rows.parquet", signals.STATE_ROW_SCHEMA),
    ("predictions.parquet", predictions.PREDICTION_SCHEMA),
]


def documented(file: str) -> list[tuple[str, str, bool]]:
    """(column, type, nullable) of the table below the heading that names the file."""
    section = next(part for part in TEXT.split("\n## ")[1:] if file in part.splitlines()[0])
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE)
    return [(name, kind.split(",")[0], "may be null" in kind) for name, kind in rows]


@pytest.mark.parametrize(("file", "schema"), SCHEMAS, ids=[file for file, _ in SCHEMAS])
def test_every_column_is_documented(file: str, schema: pa.Schema) -> None:
    def shown(kind: pa.DataType) -> str:
        if isinstance(kind, pa.ListType):
            return f"list<{shown(kind.value_type)}>"
        return "float32" if kind == pa.float32() else str(kind)

    actual = [(field.name, shown(field.type), field.nullable) for field in schema]
    assert documented(file) == actual
