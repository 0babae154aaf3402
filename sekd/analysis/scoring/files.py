"""Read a file of predictions (CSV, JSONL or Parquet) as columns.

Only the columns that :mod:`sekd.analysis.scoring.resolve` describes are read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from sekd.data.predictions import PREDICTION_SCHEMA, scored_rows
from sekd.errors import ConfigError
from sekd.io.tables import TABLE_SUFFIXES, column_names, is_text, read_columns

CELL_COLUMNS = ("model", "dataset", "paradigm", "control")
"""Columns whose values tell apart what is scored apart."""
_REQUIRED_COLUMNS = ("sample_id", "truth", "prediction")
_KNOWN_COLUMNS = (*_REQUIRED_COLUMNS, "level", *CELL_COLUMNS)
_ENCODED_COLUMNS = ("truth", "prediction", *CELL_COLUMNS)  # of few distinct texts


def read_prediction_columns(path: Path) -> pa.Table:
    """Read the known columns of a file of predictions, and ``row``, which counts from 0.

    ``truth`` and ``prediction`` are texts (plain or dictionary-encoded) or lists of texts, the cell
    columns are texts, and ``level`` is whatever it is written as.

    Raises:
        ConfigError: if the file is missing, empty or malformed, or a column is missing.
    """
    if path.suffix not in TABLE_SUFFIXES:
        raise ConfigError(f"{path}: predictions are .csv, .jsonl or .parquet, not {path.suffix!r}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    names = column_names(path)
    missing = [name for name in _REQUIRED_COLUMNS if name not in names]
    if missing:
        raise ConfigError(
            f"{path}: no column {missing[0]!r}; give sample_id, truth and prediction, and level "
            f"where a row is one level (there are: {', '.join(names) or 'none'})"
        )
    known = [name for name in _KNOWN_COLUMNS if name in names]
    if path.suffix == ".parquet" and names == PREDICTION_SCHEMA.names:
        # sekd's own file, which may hold several rotations of each question
        table = scored_rows(read_columns(path, [*known, "rotation"], encoded=_ENCODED_COLUMNS))
    else:
        table = read_columns(path, known, encoded=_ENCODED_COLUMNS)
    if not len(table):
        raise ConfigError(f"{path}: no row of predictions")
    columns = {name: _check_type(path, name, table[name]) for name in known}
    return pa.table({**columns, "row": np.arange(len(table))})


def _check_type(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column, as text where it is of another type that can be written as text."""
    kind = column.type
    if name == "level" or is_text(kind):
        return column
    if pa.types.is_dictionary(kind) and name in _ENCODED_COLUMNS:
        return column
    may_be_list = name in ("truth", "prediction")
    if may_be_list and _is_list(kind) and is_text(kind.value_type):
        return column
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        expected = "text or a list of texts" if may_be_list else "text"
        raise ConfigError(f"{path}: the column {name!r} is {kind}; give {expected}") from error


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
