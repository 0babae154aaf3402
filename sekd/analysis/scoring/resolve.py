"""Source: anybody's predictions (CSV, JSONL or Parquet), resolved against a taxonomy.

Two layouts are read. With a column ``level`` a row is one level of one sample: ``sample_id, level,
truth, prediction``, where level 1 is the first one below the root and ``truth`` and ``prediction``
are names or node ids. Without one a row is a sample, and ``truth`` and ``prediction`` are whole
paths: lists of names or node ids from below the root (or, where every truth does, from the root),
such lists as JSON, or the leaf's node id or label. Columns ``model``, ``dataset``, ``paradigm`` and
``control`` tell cells apart that are scored each by itself; other columns are ignored.

What a fault does follows from whether a score still means something. **Refused**, all of them
counted and the first few listed: no sample id, a level that is no whole number or not one of the
taxonomy's, a truth that the taxonomy does not have at its level, a sample with a level twice, a
truth that lacks a level, does not follow its parents or does not end at a leaf. **Counted**: an
empty prediction, or the levels that a predicted path is too short for, as parse failures; a
prediction that the taxonomy does not have at its level as a wrong answer, with a warning. A
prediction below its truth's last level is not looked at.

A name is looked up at its level, whatever its case. Where several nodes there share it, the one
below the sample's own answer one level up is meant; if none is, the right one where it is among
them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.paths import NOT_PARSED, UNKNOWN, IntArray, NodeTable, Numbers, Paths
from sekd.analysis.scoring.files import read_table
from sekd.analysis.scoring.grids import (
    EMPTY,
    Faults,
    Grid,
    grid_of_levels,
    grid_of_paths,
)
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

_AMBIGUOUS = -3  # instead of a node's number, until the answer above it is known


@dataclass(frozen=True)
class ScoredCell:
    """The paths of one model, dataset, paradigm and control, as far as a file tells them apart."""

    names: Mapping[str, str]
    """By column; empty where the file has no such column."""
    paths: Paths

    @property
    def num_unknown(self) -> int:
        """Answers, one per sample and level, that the taxonomy does not have at their level."""
        return int((self.paths.scored & (self.paths.prediction == UNKNOWN)).sum())

    def __str__(self) -> str:
        return " ".join(self.names.values()) or "all"


@dataclass(frozen=True)
class Answers:
    """A file of predictions, cell by cell.

    Attributes:
        warnings: a line for a person on what is counted and should not be there.
    """

    cells: Sequence[ScoredCell]
    warnings: Sequence[str]


def read_answers(
    path: Path,
    taxonomy: Taxonomy,
    *,
    only: Mapping[str, str] | None = None,
    score_root: bool = False,
) -> Answers:
    """Read a file of predictions.

    Args:
        only: keep the rows whose cell columns have these values.
        score_root: the root is scored, as level 0; otherwise it is left out where it is given.

    Raises:
        ConfigError: on what the module says is refused, with the lines, and if the file cannot be
            read.
    """
    if score_root and not taxonomy.root.name:
        raise ConfigError(f"{taxonomy.source}: its paths share no root that could be scored")
    nodes = NodeTable.of(taxonomy)
    faults = Faults(path)
    table = _only(path, read_table(path), only or {})
    read_grid = grid_of_levels if "level" in table.column_names else grid_of_paths
    grid = read_grid(path, table, taxonomy, faults).without_root(not score_root)
    lookup = _Lookup(taxonomy, nodes, grid)
    truth = lookup.numbers(grid.truth)
    _find_faults(faults, grid, truth, nodes, taxonomy)
    faults.refuse()
    prediction = lookup.numbers(grid.prediction, right=truth)
    num_levels = (grid.truth != EMPTY).sum(axis=1)
    deepest = num_levels.max()
    paths = Paths(
        nodes=nodes,
        sample_ids=grid.sample_ids,
        truth=truth[:, :deepest],
        prediction=prediction[:, :deepest],
        num_levels=num_levels,
        first_level=grid.first_level,
    )
    unknown = Faults(path)
    unknown.add(
        f"{path}: predictions not in {taxonomy.source} at their level, counted as wrong",
        grid.row[:, :deepest],
        paths.scored & (paths.prediction == UNKNOWN),
        lambda sample, column: grid.text(grid.prediction, sample, column),
    )
    cells = [
        ScoredCell(
            names, paths if len(grid.cells) == 1 else paths.take(np.flatnonzero(grid.cell == i))
        )
        for i, names in enumerate(grid.cells)
    ]
    return Answers(cells, unknown.lines)


def _only(path: Path, table: pa.Table, only: Mapping[str, str]) -> pa.Table:
    for name, value in only.items():
        if name not in table.column_names:
            raise ConfigError(f"{path}: no column {name!r} to take {value!r} of")
        there = sorted(filter(None, pc.unique(table[name].cast(pa.string())).to_pylist()))
        if value not in there:
            raise ConfigError(f"{path}: no row of {name} {value!r}; there are {', '.join(there)}")
        table = table.filter(pc.equal(table[name].cast(pa.string()), value))
    if not len(table):
        raise ConfigError(f"{path}: no row is left of {dict(only)}")
    return table


class _Lookup:
    """Finds the nodes that texts stand for; each distinct text is looked up once a level."""

    def __init__(self, taxonomy: Taxonomy, nodes: NodeTable, grid: Grid) -> None:
        self._taxonomy = taxonomy
        self._nodes = nodes
        self._texts = grid.texts
        self._first_level = grid.first_level

    def numbers(self, codes: IntArray, right: Numbers | None = None) -> Numbers:
        """int32[N, L]: node numbers, NOT_PARSED where there is no text, else UNKNOWN.

        Args:
            codes: int64[N, L], numbers of texts.
            right: what an ambiguous name stands for where the answer above it does not tell.
        """
        found = np.full(codes.shape, NOT_PARSED, dtype=np.int32)
        if right is None:
            right = found.copy()
        above = np.full(len(codes), self._first_level - 1, dtype=np.int32)  # the root has number 0
        for column in range(codes.shape[1]):
            level = self._first_level + column
            above = self._column(codes[:, column], level, above, right[:, column])
            found[:, column] = above
        return found

    def _column(self, codes: IntArray, level: int, above: Numbers, right: Numbers) -> Numbers:
        is_used = np.zeros(len(self._texts) + 1, dtype=np.bool_)
        is_used[codes] = True  # the last one stands for no text
        number = np.full(len(self._texts) + 1, NOT_PARSED, dtype=np.int32)
        namesakes: dict[int, list[int]] = {}
        for code in np.flatnonzero(is_used[:-1]).tolist():
            candidates = self._candidates(self._texts[code], level)
            number[code] = candidates[0] if candidates else UNKNOWN
            if len(candidates) > 1:
                number[code] = _AMBIGUOUS
                namesakes[code] = candidates
        found = number[codes]
        where = np.flatnonzero(found == _AMBIGUOUS)
        if len(where):
            cases = np.column_stack([codes[where], above[where], right[where]])
            distinct, place = np.unique(cases, axis=0, return_inverse=True)
            meant = [self._meant(namesakes[code], code, *rest) for code, *rest in distinct.tolist()]
            found[where] = np.array(meant, dtype=np.int32)[place.reshape(-1)]
        return found

    def _candidates(self, text: str, level: int) -> list[int]:
        numbers = self._nodes.numbers
        number = numbers.get(text)
        if number is not None and self._nodes.nodes[number].depth == level:
            return [number]
        return [numbers[node.id] for node in self._taxonomy.named(text, level)]

    def _meant(self, candidates: Sequence[int], code: int, above: int, right: int) -> int:
        below = [number for number in candidates if self._nodes.parents[number] == above]
        if not below and right in candidates:
            return right
        same_case = (n for n in below if self._nodes.nodes[n].name == self._texts[code])
        return next(same_case, (below or candidates)[0])


def _find_faults(
    faults: Faults, grid: Grid, truth: Numbers, nodes: NodeTable, taxonomy: Taxonomy
) -> None:
    """Everything that makes a truth none."""

    def nearest(sample: int, column: int) -> str:
        text = grid.texts[grid.truth[sample, column]]
        there = {n.name.casefold(): n.name for n in nodes.nodes if n.depth == column + first_level}
        near = difflib.get_close_matches(text.casefold(), there, n=1)
        hint = f"; did you mean {there[near[0]]!r}?" if near else grid.hint
        return grid.text(grid.truth, sample, column) + hint

    first_level = grid.first_level
    has = grid.truth != EMPTY
    is_known = truth >= 0
    faults.add(
        f"truths not in {taxonomy.source} at their level",
        grid.row,
        has & (truth == UNKNOWN),
        nearest,
    )
    every = np.arange(len(has))
    count = has.sum(axis=1)
    last = np.where(count > 0, has.shape[1] - np.argmax(has[:, ::-1], axis=1), 0)
    is_whole = (count > 0) & (count == last)
    at = np.zeros_like(has)
    at[every, np.argmin(has, axis=1)] = ~is_whole
    faults.add(
        "samples that lack a level",
        np.repeat(grid.row.max(axis=1, initial=-1, keepdims=True), has.shape[1], axis=1),
        at,
        lambda sample, column: (
            f"sample {grid.sample_ids[sample].as_py()!r} has no truth at level "
            f"{column + first_level}"
        ),
    )
    at = np.zeros_like(has)
    at[:, 1:] = is_known[:, 1:] & is_known[:, :-1] & (nodes.parents[truth[:, 1:]] != truth[:, :-1])
    faults.add(
        "truths not below the one a level up",
        grid.row,
        at,
        lambda sample, column: (
            f"{grid.text(grid.truth, sample, column)} is not below "
            f"{grid.text(grid.truth, sample, column - 1)}"
        ),
    )
    at = np.zeros_like(has)
    end = truth[every, np.maximum(last - 1, 0)]
    at[every, np.maximum(last - 1, 0)] = is_whole & (end >= 0) & ~nodes.is_leaf[end]
    faults.add(
        "samples that end above a leaf",
        grid.row,
        at,
        lambda sample, column: (
            f"sample {grid.sample_ids[sample].as_py()!r} ends with "
            f"{grid.text(grid.truth, sample, column)}"
        ),
    )
