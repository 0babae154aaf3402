"""Predictions on disk: one row per sample and level of one model, dataset, paradigm and control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sekd.io.columns import encode_column

NO_CONTROL = "none"
"""Stands in the column ``control`` where there is none."""

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("paradigm", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),  # "none" without one
        pa.field("rotation", pa.int16(), nullable=False),  # of the options; 0 but for circular
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("level", pa.int16(), nullable=False),
        pa.field("rank", pa.string(), nullable=False),
        pa.field("options", pa.list_(pa.string()), nullable=False),  # node ids, as shown
        pa.field("truth", pa.string(), nullable=False),  # node id
        pa.field("prediction", pa.string()),  # node id; null: the reply could not be parsed
        pa.field("option_logprobs", pa.list_(pa.float32())),  # null: not known
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
    control: str = NO_CONTROL
    rotation: int = 0


def to_table(rows: Iterable[Prediction]) -> pa.Table:
    """Rows of :data:`PREDICTION_SCHEMA`."""
    names = PREDICTION_SCHEMA.names
    content = [{name: getattr(row, name) for name in names} for row in rows]
    return pa.Table.from_pylist(content, PREDICTION_SCHEMA)


def write_predictions(rows: Iterable[Prediction], path: Path) -> None:
    """Write one shard."""
    pq.write_table(to_table(rows), path)


def read_predictions(paths: Sequence[Path]) -> pa.Table:
    """Read shards into one table, in order."""
    tables = [pq.read_table(path, schema=PREDICTION_SCHEMA) for path in paths]
    return pa.concat_tables(tables) if tables else PREDICTION_SCHEMA.empty_table()


def scored_rows(rows: pa.Table) -> pa.Table:
    """One row for each sample and level of each cell, of several rotations the worst one.

    That is the first whose reply could not be parsed, else the first that is wrong, else that of
    rotation 0. So a level is right only where every rotation is, and is a parse failure only where
    one of them is.

    Args:
        rows: with at least the columns of :data:`PREDICTION_SCHEMA` that name a cell, a sample, a
            level, a rotation, and truth and prediction.
    """
    if not pc.any(pc.greater(rows["rotation"], 0)).as_py():
        return rows
    prediction, truth = (rows[name].cast(pa.string()) for name in ("prediction", "truth"))
    is_right = pc.fill_null(pc.equal(prediction, truth), False)
    badness = np.where(prediction.is_null().to_numpy(), 0, 1 + is_right.to_numpy())
    names = [encode_column(rows[name])[0] for name in ("model", "dataset", "paradigm", "control")]
    asked = np.stack([*names, encode_column(rows["sample_id"])[0], rows["level"].to_numpy()])
    order = np.lexsort((rows["rotation"].to_numpy(), badness, *asked[::-1]))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (asked[:, order[1:]] != asked[:, order[:-1]]).any(axis=0)
    return rows.take(pa.array(order[is_first]))
