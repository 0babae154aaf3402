"""Predictions on disk: one row per sample and level of one model, dataset and paradigm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),  # base or student
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("paradigm", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("level", pa.int16(), nullable=False),
        pa.field("rank", pa.string(), nullable=False),
        pa.field("options", pa.list_(pa.string()), nullable=False),  # node ids, as shown
        pa.field("truth", pa.string(), nullable=False),  # node id
        pa.field("prediction", pa.string()),  # node id; null: the reply could not be parsed
        pa.field("option_logprobs", pa.list_(pa.float32())),  # null for the joint paradigm
        pa.field("reply", pa.string()),  # the joint paradigm's whole reply
    ]
)
PREDICTIONS = "predictions"
"""Role of the file in a shard."""


@dataclass(frozen=True)
class Prediction:
    """One row, as :data:`PREDICTION_SCHEMA` stores it."""

    model: str
    dataset: str
    paradigm: str
    sample_id: str
    level: int
    rank: str
    options: tuple[str, ...]
    truth: str
    prediction: str | None
    option_logprobs: Sequence[float] | None = None
    reply: str | None = None


def write_predictions(rows: Iterable[Prediction], path: Path) -> None:
    """Write one shard."""
    names = PREDICTION_SCHEMA.names
    table = [{name: getattr(row, name) for name in names} for row in rows]
    pq.write_table(pa.Table.from_pylist(table, PREDICTION_SCHEMA), path)


def read_predictions(paths: Sequence[Path]) -> pa.Table:
    """Read shards into one table, in order."""
    tables = [pq.read_table(path, schema=PREDICTION_SCHEMA) for path in paths]
    return pa.concat_tables(tables) if tables else PREDICTION_SCHEMA.empty_table()
