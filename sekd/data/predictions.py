"""Predictions on disk: one row per sample and level of one model, dataset, paradigm and control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sekd.data.row_schema import column, schema_of, table_of
from sekd.io.columns import encode_column
from sekd.io.faults import retry

NO_CONTROL = "none"
"""Stands in the column ``control`` of a row without a control."""

PREDICTIONS = "predictions"
"""Role of the file in a shard."""

EVALUATION = "evaluation"
"""Name of the record of an evaluation's metrics, predictions and config."""


PATH = pa.struct([("node", pa.string()), ("probability", pa.float32())])
"""Type of one of several paths: its last node, and its probability."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One row of :data:`PREDICTION_SCHEMA`.

    Attributes:
        control: ``NO_CONTROL`` without one.
        rotation: of the options, from 0; it is always 0 except under the control ``circular``.
        options: node ids, in the order shown.
        truth: node id.
        prediction: node id; ``None`` if the reply could not be parsed.
        option_logprobs: of the letters, in the order shown; ``None`` where they are not known.
        reply: the joint paradigm's whole reply.
        path_logprob: log-probability of the predicted path down to here, of a paradigm that gives
            the probability of a path. Where the path ends above this level, ``prediction`` is its
            last node, and ``options`` are none.
        paths: of the first level under a beam: the most probable paths, ``node`` and
            ``probability``, best first.
    """

    model: str = column(pa.string())
    dataset: str = column(pa.string())
    paradigm: str = column(pa.string())
    control: str = column(pa.string(), default=NO_CONTROL)
    rotation: int = column(pa.int16(), default=0)
    sample_id: str = column(pa.string())
    level: int = column(pa.int16())
    rank: str = column(pa.string())
    options: tuple[str, ...] = column(pa.list_(pa.string()))
    truth: str = column(pa.string())
    prediction: str | None = column(pa.string(), nullable=True)
    option_logprobs: Sequence[float] | None = column(
        pa.list_(pa.float32()), nullable=True, default=None
    )
    reply: str | None = column(pa.string(), nullable=True, default=None)
    path_logprob: float | None = column(pa.float32(), nullable=True, default=None)
    paths: Sequence[dict[str, Any]] | None = column(pa.list_(PATH), nullable=True, default=None)


PREDICTION_SCHEMA = schema_of(Prediction)


def to_table(rows: Iterable[Prediction]) -> pa.Table:
    """Return rows as a table of :data:`PREDICTION_SCHEMA`."""
    return table_of(rows, PREDICTION_SCHEMA)


def write_predictions(rows: Iterable[Prediction], path: Path) -> None:
    """Write one shard."""
    pq.write_table(to_table(rows), path)


def read_predictions(paths: Sequence[Path]) -> pa.Table:
    """Read shards into one table, in order."""
    read = partial(pq.read_table, schema=PREDICTION_SCHEMA)
    tables = [retry(partial(read, path), path) for path in paths]
    return pa.concat_tables(tables) if tables else PREDICTION_SCHEMA.empty_table()


def scored_rows(rows: pa.Table) -> pa.Table:
    """Reduce the rotations of a question to one row: one for each sample and level of each cell.

    The worst rotation counts: the first whose reply could not be parsed, else the first that is
    wrong, else rotation 0. So a level is right only where every rotation is right, and is a parse
    failure where one of them is.

    Args:
        rows: with at least the columns of :data:`PREDICTION_SCHEMA` that name a cell, a sample, a
            level, a rotation, and truth and prediction.
    """
    if not pc.any(pc.greater(rows["rotation"], 0)).as_py():
        return rows
    prediction, truth = (rows[name].cast(pa.string()) for name in ("prediction", "truth"))
    is_right = pc.fill_null(pc.equal(prediction, truth), False).to_numpy()
    badness = np.where(prediction.is_null().to_numpy(), 0, np.where(is_right, 2, 1))
    names = ("model", "dataset", "paradigm", "control", "sample_id")
    codes = [encode_column(rows[name])[0] for name in names]
    question = np.stack([*codes, rows["level"].to_numpy()])
    # The last key is the first to sort by: questions in order, then the worst, then the rotation.
    order = np.lexsort((rows["rotation"].to_numpy(), badness, *question[::-1]))
    is_worst = np.ones(len(order), dtype=bool)
    is_worst[1:] = (question[:, order[1:]] != question[:, order[:-1]]).any(axis=0)
    return rows.take(pa.array(order[is_worst]))
