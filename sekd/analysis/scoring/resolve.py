"""Predictions of any origin (CSV, JSONL or Parquet), resolved against a taxonomy.

Two layouts are read. With a column ``level`` a row is one level of one sample: ``sample_id, level,
truth, prediction``, where level 1 is the first one below the root and ``truth`` and ``prediction``
are names or node ids. Without one a row is a sample, and ``truth`` and ``prediction`` are whole
paths: lists of names or node ids from below the root (or, where every truth does, from the root),
such lists as JSON, or the leaf's node id or label. Columns ``model``, ``dataset``, ``paradigm`` and
``control`` tell apart cells, each of which is scored by itself. Other columns are ignored.

A fault is refused if it leaves a score without a meaning, and is counted otherwise. **Refused** are
a row without a sample id, a level that is not a whole number or not one of the taxonomy's, a truth
that the taxonomy does not have at its level, a sample that has a level twice, and a truth that
lacks a level, does not follow its parents or does not end at a leaf. All of them are counted, and
the first few are listed. **Counted** as parse failures are an empty prediction, and the levels for
which a predicted path is too short; counted as a wrong answer, with a warning, is a prediction that
the taxonomy does not have at its level. A prediction below its truth's last level is ignored.

A name is looked up at its level, whatever its case. Where several nodes there share it, it means
the one below the sample's own answer one level up; if there is none, it means the right one if that
is among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.paths import UNKNOWN, NodeTable, Paths
from sekd.analysis.scoring.checks import TruthChecks
from sekd.analysis.scoring.faults import Faults
from sekd.analysis.scoring.files import read_prediction_columns
from sekd.analysis.scoring.grids import EMPTY, TextGrid
from sekd.analysis.scoring.level_rows import grid_of_levels
from sekd.analysis.scoring.lookup import NodeLookup
from sekd.analysis.scoring.path_rows import grid_of_paths
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError


@dataclass(frozen=True)
class ResolvedCell:
    """The paths of one cell: one model, dataset, paradigm and control.

    Attributes:
        names: value by column, for the cell columns that the file has.
    """

    names: Mapping[str, str]
    paths: Paths

    @property
    def num_unknown(self) -> int:
        """The number of predicted levels that the taxonomy does not have at their level."""
        return int((self.paths.scored & (self.paths.prediction == UNKNOWN)).sum())

    def __str__(self) -> str:
        return " ".join(self.names.values()) or "all"


@dataclass(frozen=True)
class ResolvedPredictions:
    """A file of predictions, cell by cell.

    Attributes:
        warnings: texts for a person about what is counted but should not be there.
    """

    cells: Sequence[ResolvedCell]
    warnings: Sequence[str]


def resolve_predictions(
    path: Path,
    taxonomy: Taxonomy,
    *,
    only: Mapping[str, str] | None = None,
    score_root: bool = False,
) -> ResolvedPredictions:
    """Read a file of predictions, and find the node of every truth and prediction.

    Args:
        only: take only the rows whose cell columns have these values.
        score_root: score the root as level 0; otherwise it is left out where it is given.

    Raises:
        ConfigError: on what the module refuses, with the lines, and if the file cannot be read.
    """
    if score_root and not taxonomy.root.name:
        raise ConfigError(f"{taxonomy.source}: its paths share no root that could be scored")
    table = _select_rows(path, read_prediction_columns(path), only or {})
    nodes = NodeTable.of(taxonomy)
    faults = Faults(path)
    if "level" in table.column_names:
        grid = grid_of_levels(path, table, taxonomy, faults)
    else:
        grid = grid_of_paths(table, taxonomy, faults)
    if not score_root:
        grid = grid.below_root()
    lookup = NodeLookup(taxonomy, nodes, grid)
    truth = lookup.find(grid.truth)
    TruthChecks(faults, grid, truth, nodes, taxonomy).run()
    faults.refuse()
    num_levels = (grid.truth != EMPTY).sum(axis=1)
    deepest = num_levels.max()
    paths = Paths(
        nodes=nodes,
        sample_ids=grid.sample_ids,
        truth=truth[:, :deepest],
        prediction=lookup.find(grid.prediction, truth)[:, :deepest],
        num_levels=num_levels,
        first_level=grid.first_level,
    )
    return ResolvedPredictions(
        _split_cells(paths, grid), _warn_of_unknown(path, paths, grid, taxonomy)
    )


def _select_rows(path: Path, table: pa.Table, only: Mapping[str, str]) -> pa.Table:
    for name, value in only.items():
        if name not in table.column_names:
            raise ConfigError(f"{path}: no column {name!r} to take {value!r} of")
        column = table[name].cast(pa.string())
        values = sorted(filter(None, pc.unique(column).to_pylist()))
        if value not in values:
            raise ConfigError(f"{path}: no row of {name} {value!r}; there are {', '.join(values)}")
        table = table.filter(pc.equal(column, value))
    if not len(table):
        raise ConfigError(f"{path}: no row is left of {dict(only)}")
    return table


def _split_cells(paths: Paths, grid: TextGrid) -> list[ResolvedCell]:
    if len(grid.cells) == 1:
        return [ResolvedCell(grid.cells[0], paths)]
    return [
        ResolvedCell(names, paths.take(np.flatnonzero(grid.cell == index)))
        for index, names in enumerate(grid.cells)
    ]


def _warn_of_unknown(path: Path, paths: Paths, grid: TextGrid, taxonomy: Taxonomy) -> Sequence[str]:
    """Return a warning about the predictions that the taxonomy does not have, if there are any."""
    unknown = Faults(path)
    unknown.add(
        f"{path}: predictions not in {taxonomy.source} at their level, counted as wrong",
        grid.row[:, : paths.prediction.shape[1]],
        paths.scored & (paths.prediction == UNKNOWN),
        lambda sample, column: grid.describe(grid.prediction, sample, column),
    )
    return unknown.lines
