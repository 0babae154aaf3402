"""Predictions of any origin, resolved against a taxonomy.

:mod:`.files` brings a file into one of two layouts. With a column ``level`` a row is one level of
one sample: ``sample_id, level, truth, prediction``, where level 1 is the first one below the root
and ``truth`` and ``prediction`` are names or node ids. Without one a row is a sample, and ``truth``
and ``prediction`` are whole paths: lists of names or node ids from below the root (or, where every
truth does, from the root), such lists as JSON, or the leaf's node id or label. Columns ``model``,
``dataset``, ``paradigm`` and ``control`` tell apart cells, each of which is scored by itself; cells
of which the taxonomy has no truth at all are left out, with a note. Other columns are ignored.

A fault is refused if it leaves a score without a meaning, and is counted otherwise. **Refused** are
a row without a sample id, a level that is not a whole number or not one of the taxonomy's, a truth
that the taxonomy does not have at its level, a sample that has a level twice, a truth that lacks a
level, does not follow its parents or does not end at a leaf, and answers of which most are not in
the taxonomy. All of them are counted, and the first few are listed. **Counted** as parse failures
are an empty prediction (also ``NaN`` and the like), and the levels for which a predicted path is
too short; counted as a wrong answer, with a warning, is a prediction that the taxonomy does not
have at its level. A prediction below its truth's last level is ignored.

A name is looked up at its level, as it is written and then by the steps of :mod:`sekd.data.names`.
Where several nodes there share it, it means the one below the sample's own answer one level up; if
there is none, it means the right one if that is among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sekd.analysis.paths import NOT_PARSED, UNKNOWN, NodeTable, Paths
from sekd.analysis.scoring.checks import TruthChecks
from sekd.analysis.scoring.faults import Faults
from sekd.analysis.scoring.files import FileOptions, PredictionTable, read_prediction_table
from sekd.analysis.scoring.grids import EMPTY, TextGrid
from sekd.analysis.scoring.level_rows import grid_of_levels
from sekd.analysis.scoring.lookup import NodeLookup
from sekd.analysis.scoring.matches import NameMatches
from sekd.analysis.scoring.path_rows import grid_of_paths
from sekd.analysis.scoring.selection import clusters_of, select_rows
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError


@dataclass(frozen=True)
class ResolvedCell:
    """The paths of one cell: one model, dataset, paradigm and control.

    Attributes:
        names: value by column, for the cell columns that the file has.
        is_leaf_only: every answer is a leaf alone, whose path the taxonomy gives.
        is_rotated: the worst of several rotations of each question is scored.
    """

    names: Mapping[str, str]
    paths: Paths
    is_leaf_only: bool = False
    is_rotated: bool = False

    @property
    def has_own_paths(self) -> bool:
        """The model itself gave every path, so that it can leave the taxonomy."""
        return not (self.is_leaf_only or self.is_rotated)

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
        warnings: texts for a person about what is counted but should not be there, what was found
            in the file and not told, and how names were matched.
    """

    cells: Sequence[ResolvedCell]
    warnings: Sequence[str]


def resolve_predictions(
    path: Path,
    taxonomy: Taxonomy,
    *,
    only: Mapping[str, str] | None = None,
    score_root: bool = False,
    options: FileOptions | None = None,
) -> ResolvedPredictions:
    """Read a file of predictions, and find the node of every truth and prediction.

    Args:
        only: take only the rows whose cell columns have these values.
        score_root: score the root as level 0; otherwise it is left out where it is given.
        options: what is told about the file.

    Raises:
        ConfigError: on what the module refuses, with the lines, and if the file cannot be read.
    """
    if score_root and not taxonomy.root.name:
        raise ConfigError(f"{taxonomy.source}: its paths share no root that could be scored")
    options = options or FileOptions()
    file = read_prediction_table(path, taxonomy, options)
    matches = NameMatches(taxonomy)
    table, left_out = select_rows(file, only or {}, taxonomy, matches)
    nodes = NodeTable.of(taxonomy)
    faults = Faults(path, file.place_rows)
    if "level" in table.column_names:
        grid = grid_of_levels(path, table, taxonomy, faults, matches)
    else:
        grid = grid_of_paths(table, taxonomy, faults, matches)
    if not score_root:
        grid = grid.below_root()
    lookup = NodeLookup(matches, nodes, grid)
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
    if options.cluster is not None:
        paths = replace(paths, clusters=clusters_of(paths, table, grid, taxonomy, options.cluster))
    unknown = _warn_of_unknown(file, paths, grid, taxonomy)
    if not options.allows_unknown:
        _refuse_mostly_unknown(paths, unknown)
    cells = _split_cells(paths, grid, file, options)
    notes = [*file.notes, *left_out, matches.sentence(), *_warn_of_leaves(path, cells)]
    return ResolvedPredictions(cells, [note for note in [*unknown, *notes] if note])


def _split_cells(
    paths: Paths, grid: TextGrid, file: PredictionTable, options: FileOptions
) -> list[ResolvedCell]:
    is_leaf = grid.has_leaf_answers
    cells = []
    for index, names in enumerate(grid.cells):
        samples = np.flatnonzero(grid.cell == index)
        cells.append(
            ResolvedCell(
                names,
                paths.take(samples) if len(grid.cells) > 1 else paths,
                is_leaf_only=(
                    is_leaf is not None
                    and not options.completes_leaves
                    and bool((is_leaf[samples] | (grid.prediction[samples] == EMPTY).all(1)).all())
                    and bool(is_leaf[samples].any())
                ),
                is_rotated=names in file.rotated,
            )
        )
    return cells


def _warn_of_unknown(
    file: PredictionTable, paths: Paths, grid: TextGrid, taxonomy: Taxonomy
) -> Sequence[str]:
    """Return a warning about the predictions that the taxonomy does not have, if there are any."""
    unknown = Faults(file.path, file.place_rows)
    unknown.add(
        f"{file.path}: predictions not in {taxonomy.source} at their level, counted as wrong",
        grid.row[:, : paths.prediction.shape[1]],
        paths.scored & (paths.prediction == UNKNOWN),
        lambda sample, column: grid.describe(grid.prediction, sample, column),
    )
    return unknown.lines


def _refuse_mostly_unknown(paths: Paths, unknown: Sequence[str]) -> None:
    """Refuse answers of which more than half are not in the taxonomy: a score of 0 would lie."""
    num_unknown = int((paths.scored & (paths.prediction == UNKNOWN)).sum())
    num_answers = int((paths.scored & (paths.prediction != NOT_PARSED)).sum())
    if num_answers and num_unknown > num_answers / 2:
        raise ConfigError(
            f"{unknown[0]}; that is {100 * num_unknown / num_answers:.0f} % of the answers: check "
            "the taxonomy, the levels and --columns, or score them all the same with "
            "--allow-unknown"
        )


def _warn_of_leaves(path: Path, cells: Sequence[ResolvedCell]) -> Sequence[str]:
    if not any(cell.is_leaf_only for cell in cells):
        return ()
    return (
        f"{path}: every answer is a leaf alone, so HCA is leaf accuracy, the levels above are those"
        " of the leaf, and TICE is undefined; --complete-leaves takes the leaf for its whole path",
    )
