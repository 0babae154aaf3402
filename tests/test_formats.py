"""docs/formats.md is held to the schemas in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from fakes import Fake

from sekd.data import labels, predictions, signals
from sekd.errors import ShardError
from sekd.io.records import unseal
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.runner import run_stage
from sekd.pipeline.stage import Stage

TEXT = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
SCHEMAS = [
    ("labels-….parquet", labels.LABEL_SCHEMA),
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
        if isinstance(kind, pa.StructType):
            return "struct"  # its fields have a table of their own
        if isinstance(kind, pa.ListType):
            return f"list<{shown(kind.value_type)}>"
        return "float32" if kind == pa.float32() else str(kind)

    actual = [(field.name, shown(field.type), field.nullable) for field in schema]
    assert documented(file) == actual


def test_every_field_of_a_record_is_documented(tmp_path: Path) -> None:
    stage = Stage.open(tmp_path, {"spec": 1}, SampleInputs.of_ids(["a", "b"], 2))
    stage.ledger.begin(0).fail(ShardError("no luck"))
    assert run_stage(stage, Fake(), max_attempts=2).manifest
    tables = re.split(r"^\| ([\w/.-]+\.json) \| meaning \|$", TEXT, flags=re.MULTILINE)
    documented = dict(zip(tables[1::2], tables[2::2], strict=True))
    for name, files in {
        "plan-REVISION.json": ["plan-00000.json"],
        "attempts/SHARD-NUMBER.start.json": ["attempts/00000-001.start.json"],
        "attempts/SHARD-NUMBER.end.json": [f"attempts/00000-00{n}.end.json" for n in (1, 2)],
        "manifest-CONTENT.json": ["manifest-*.json"],
    }.items():
        table = documented[name].split("\n\n")[0]
        paths = [path for file in files for path in stage.directory.glob(file)]
        actual = {key for path in paths for key in unseal(path.read_bytes())}
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == actual
