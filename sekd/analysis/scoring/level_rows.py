"""The layout in which every row is one level of a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from sekd.analysis.paths import IntArray
from sekd.analysis.scoring.faults import Faults
from sekd.analysis.scoring.grids import EMPTY, NO_ROW, TextGrid, TextNumbers, encode_cells
from sekd.analysis.scoring.matches import NameMatches
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.columns import encode_column

_NO_LEVEL = -1
_LEVEL_LIMIT = 1 << 15  # more than any taxonomy has

# Shapes: R rows, N samples, L levels from the root on.


def grid_of_levels(
    path: Path, table: pa.Table, taxonomy: Taxonomy, faults: Faults, matches: NameMatches
) -> TextGrid:
    """Build the grid of a table with a column ``level``.

    Samples are in the order of cell and first appearance of their id. Of several rows for one level
    of a sample, which are a fault, the first counts.

    Raises:
        ConfigError: if truths or predictions are lists.
    """
    _refuse_lists(path, table)
    rows = table["row"].to_numpy()
    id_of_row, sample_ids = encode_column(table["sample_id"])
    cells, cell_of_row = encode_cells(table)
    faults.add("rows without a sample_id", rows, id_of_row < 0)
    level_of_row = _read_levels(table, rows, taxonomy, faults)
    is_placed = (id_of_row >= 0) & (level_of_row != _NO_LEVEL)
    texts = TextNumbers(matches.is_missing)
    truth_of_row = texts.encode(table["truth"])
    prediction_of_row = texts.encode(table["prediction"])

    # An id in a cell has the number cell * num_ids + id. It is a sample if one of its rows has a
    # truth; samples are numbered from 0 in the same order.
    num_ids = max(1, len(sample_ids))
    number_of_row = np.where(is_placed, cell_of_row * num_ids + id_of_row, 0)
    rows_with_truth = np.flatnonzero(is_placed & (truth_of_row != EMPTY))
    is_sample = np.zeros(len(cells) * num_ids, dtype=np.bool_)
    is_sample[number_of_row[rows_with_truth]] = True
    is_without_truth = is_placed & ~is_sample[number_of_row]
    faults.add("rows of samples without a truth", rows, is_without_truth)
    sample_of_number = np.cumsum(is_sample) - 1
    cell_of_sample, id_of_sample = np.divmod(np.flatnonzero(is_sample), num_ids)

    row_at = _first_row_of_each_level(
        rows_with_truth,
        sample_of_number[number_of_row[rows_with_truth]],
        level_of_row[rows_with_truth],
        num_samples=len(id_of_sample),
    )
    is_repeated = np.zeros(len(rows), dtype=np.bool_)
    is_repeated[rows_with_truth] = True
    is_repeated[row_at[row_at != NO_ROW]] = False
    faults.add(
        "rows that give a sample's level again",
        rows,
        is_repeated,
        lambda row: f"sample {table['sample_id'][row].as_py()!r}, level {level_of_row[row]}",
    )
    row_of_level = _take_rows(rows, row_at, NO_ROW)
    return TextGrid(
        sample_ids=sample_ids.take(pa.array(id_of_sample)),
        cells=cells,
        cell=cell_of_sample,
        row=row_of_level,
        last_row=row_of_level.max(axis=1),
        truth=_take_rows(truth_of_row, row_at, EMPTY),
        prediction=_take_rows(prediction_of_row, row_at, EMPTY),
        texts=texts.texts,
    )


def _refuse_lists(path: Path, table: pa.Table) -> None:
    for name in ("truth", "prediction"):
        if pa.types.is_nested(table[name].type):
            raise ConfigError(
                f"{path}: {name} is a list in a table with a column level, where a row is one "
                "level; leave level out, or give a name or node id a row"
            )


def _read_levels(table: pa.Table, rows: IntArray, taxonomy: Taxonomy, faults: Faults) -> IntArray:
    """Return each row's level, int64[R]; ``_NO_LEVEL``, a fault, if the taxonomy has none such."""
    levels = _whole_numbers(table["level"])
    depth = max(node.depth for node in taxonomy.nodes)
    is_level = (levels >= 0) & (levels <= depth)
    faults.add(
        f"rows without a level of {taxonomy.source}, 0 (the root) to {depth}",
        rows,
        ~is_level,
        lambda row: f"level {table['level'][row].as_py()!r}",
    )
    return np.where(is_level, levels, _NO_LEVEL)


def _whole_numbers(column: pa.ChunkedArray) -> IntArray:
    """Return a column as int64[R], ``_NO_LEVEL`` for what is no whole number."""
    try:
        numbers = column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        parsed = [_parse_level(value) for value in column.to_pylist()]
        numbers = pa.chunked_array([parsed], pa.int64())
    return np.asarray(numbers.fill_null(_NO_LEVEL).to_numpy())


def _parse_level(value: object) -> int:
    try:
        number = float(str(value))
    except ValueError:
        return _NO_LEVEL
    return int(number) if number.is_integer() and 0 <= number < _LEVEL_LIMIT else _NO_LEVEL


def _first_row_of_each_level(
    rows: IntArray, samples: IntArray, levels: IntArray, *, num_samples: int
) -> IntArray:
    """Arrange rows by sample and level, int64[N, L]; ``NO_ROW`` where a sample lacks a level.

    Args:
        rows: ascending numbers of rows.
        samples, levels: of these rows.
    """
    shape = (num_samples, int(levels.max(initial=1)) + 1)
    last = np.iinfo(np.int64).max
    first_row = np.full(shape[0] * shape[1], last)
    np.minimum.at(first_row, np.ravel_multi_index((samples, levels), shape), rows)
    return np.where(first_row == last, NO_ROW, first_row).reshape(shape)


def _take_rows(values: IntArray, row_at: IntArray, missing: int) -> IntArray:
    """Return the value of each row of a grid, ``missing`` where there is no row."""
    return np.where(row_at == NO_ROW, missing, values[row_at])
