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
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.data.paths import (
    NOT_PARSED,
    UNKNOWN,
    BoolArray,
    IntArray,
    NodeTable,
    Numbers,
    Paths,
    encode,
)
from sekd.data.sources.prediction_files import CELL_COLUMNS, places, read_table
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

_NUM_LISTED = 3
_MANY_LEVELS = 1 << 15  # more than any taxonomy has
_EMPTY = -1  # instead of the number of a text
_AMBIGUOUS = -3  # instead of a node's number, until the answer above it is known


@dataclass(frozen=True)
class Cell:
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

    cells: Sequence[Cell]
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
    faults = _Faults(path)
    table = _only(path, read_table(path), only or {})
    read_grid = _grid_of_levels if "level" in table.column_names else _grid_of_paths
    grid = read_grid(path, table, taxonomy, faults).without_root(not score_root)
    lookup = _Lookup(taxonomy, nodes, grid)
    truth = lookup.numbers(grid.truth)
    _find_faults(faults, grid, truth, nodes, taxonomy)
    faults.refuse()
    prediction = lookup.numbers(grid.prediction, right=truth)
    num_levels = (grid.truth != _EMPTY).sum(axis=1)
    deepest = num_levels.max()
    paths = Paths(
        nodes=nodes,
        sample_ids=grid.sample_ids,
        truth=truth[:, :deepest],
        prediction=prediction[:, :deepest],
        num_levels=num_levels,
        first_level=grid.first_level,
    )
    unknown = _Faults(path)
    unknown.add(
        f"{path}: predictions not in {taxonomy.source} at their level, counted as wrong",
        grid.row[:, :deepest],
        paths.scored & (paths.prediction == UNKNOWN),
        lambda sample, column: grid.text(grid.prediction, sample, column),
    )
    cells = [
        Cell(names, paths if len(grid.cells) == 1 else paths.take(np.flatnonzero(grid.cell == i)))
        for i, names in enumerate(grid.cells)
    ]
    return Answers(cells, unknown.lines)


class _Faults:
    """Kinds of faults, each counted and its first few places listed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[str] = []

    def add(
        self,
        what: str,
        rows: IntArray,
        is_fault: BoolArray,
        describe: Callable[..., str] | None = None,
    ) -> None:
        """Count one kind.

        Args:
            rows: the file's row of each entry.
            is_fault: of the same shape.
            describe: from an entry's indices to what a person should see of it.
        """
        entries = np.argwhere(is_fault)
        if not len(entries):
            return
        at = rows[tuple(entries.T)]
        first = np.argsort(at, kind="stable")[:_NUM_LISTED]
        where = places(self._path, at[first].tolist())
        if describe is not None:
            shown = [describe(*entry) for entry in entries[first].tolist()]
            where = [f"{place}: {text}" for place, text in zip(where, shown, strict=True)]
        more = f" and {len(entries) - _NUM_LISTED:,} more" if len(entries) > _NUM_LISTED else ""
        self.lines.append(f"{what}: {len(entries):,} ({'; '.join(where)}{more})")

    def refuse(self) -> None:
        if self.lines:
            raise ConfigError(f"{self._path}: {'; '.join(self.lines)}")


@dataclass(frozen=True, eq=False, kw_only=True)
class _Grid:
    """Texts of N samples (a sample of two cells is two) at L levels, each as a number.

    Attributes:
        cells: distinct values of the cell columns.
        cell: int64[N], place in ``cells``.
        row: int64[N, L], the file's row, from 0; -1 where there is none.
        truth: int64[N, L], place in ``texts`` or ``_EMPTY``.
        prediction: the same.
        texts: none empty.
        hint: what a truth could have been written as.
        first_level: of the first column.
    """

    sample_ids: pa.StringArray
    cells: Sequence[Mapping[str, str]]
    cell: IntArray
    row: IntArray
    truth: IntArray
    prediction: IntArray
    texts: Sequence[str]
    hint: str = ""
    first_level: int = 0

    def text(self, codes: IntArray, sample: int, column: int) -> str:
        """What is written for a sample at a level."""
        return f"{self.texts[codes[sample, column]]!r} at level {column + self.first_level}"

    def without_root(self, left_out: bool) -> _Grid:
        """This grid, which starts at the root, or the one below the root."""
        if not left_out:
            return self
        return _Grid(
            sample_ids=self.sample_ids,
            cells=self.cells,
            cell=self.cell,
            row=self.row[:, 1:],
            truth=self.truth[:, 1:],
            prediction=self.prediction[:, 1:],
            texts=self.texts,
            hint=self.hint,
            first_level=1,
        )


@dataclass
class _Texts:
    """Distinct texts, without the space around them, by number."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str | None) -> int:
        text = (text or "").strip()
        return self.numbers.setdefault(text, len(self.numbers)) if text else _EMPTY

    def of(self, column: pa.ChunkedArray) -> IntArray:
        """int64[R]: the number of each row's text, or ``_EMPTY``."""
        codes, values = encode(column)
        numbers = [self.number(text) for text in values.to_pylist()]
        return np.array([*numbers, _EMPTY], dtype=np.int64)[codes]


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


def _cells(table: pa.Table) -> tuple[list[dict[str, str]], IntArray]:
    """Distinct values of the cell columns, in order of appearance, and each row's place in them."""
    columns = [name for name in CELL_COLUMNS if name in table.column_names]
    key = np.zeros(len(table), dtype=np.int64)
    texts = []
    for name in columns:
        codes, values = encode(table[name])
        texts.append(["", *values.to_pylist()])
        key = key * len(texts[-1]) + codes + 1
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    cells = []
    for number in key[first[order]].tolist():
        names = {}
        for name, values in zip(reversed(columns), reversed(texts), strict=True):
            number, code = divmod(number, len(values))
            names[name] = values[code]
        cells.append(dict(reversed(names.items())))
    return cells, np.argsort(order)[place]


def _grid_of_levels(path: Path, table: pa.Table, taxonomy: Taxonomy, faults: _Faults) -> _Grid:
    """Every row is a level of a sample."""
    for name in ("truth", "prediction"):
        if pa.types.is_nested(table[name].type):
            raise ConfigError(
                f"{path}: {name} is a list in a table with a column level, where a row is one "
                "level; leave level out, or give a name or node id a row"
            )
    rows = table["row"].to_numpy()
    depth = max(node.depth for node in taxonomy.nodes)
    samples, sample_ids = encode(table["sample_id"])
    levels = _levels(table["level"])
    faults.add("rows without a sample_id", rows, samples < 0)
    is_level = (levels >= 0) & (levels <= depth)
    faults.add(
        f"rows without a level of {taxonomy.source}, 0 (the root) to {depth}",
        rows,
        ~is_level,
        lambda row: f"level {table['level'][row].as_py()!r}",
    )
    texts = _Texts()
    truth, prediction = texts.of(table["truth"]), texts.of(table["prediction"])
    cells, cell = _cells(table)
    is_placed = (samples >= 0) & is_level
    keys = np.where(is_placed, cell * len(sample_ids) + samples, 0)
    used = np.flatnonzero(is_placed & (truth != _EMPTY))
    is_there = np.zeros(len(cells) * len(sample_ids) + 1, dtype=np.bool_)
    is_there[keys[used]] = True
    faults.add("rows of samples without a truth", rows, is_placed & ~is_there[keys])
    there = np.flatnonzero(is_there)
    num_columns = int(levels[used].max(initial=1)) + 1
    at = (np.cumsum(is_there) - 1)[keys[used]] * num_columns + levels[used]
    row_of = np.full(len(there) * num_columns, len(rows), dtype=np.int64)
    np.minimum.at(row_of, at, used)  # the first of several rows stands
    is_repeated = np.zeros(len(rows), dtype=np.bool_)
    is_repeated[used] = row_of[at] != used
    faults.add(
        "rows that give a sample's level again",
        rows,
        is_repeated,
        lambda row: f"sample {table['sample_id'][row].as_py()!r}, level {levels[row]}",
    )
    cell_of, sample_of = np.divmod(there, max(1, len(sample_ids)))
    grid = row_of.reshape(len(there), num_columns)
    has_row = grid < len(rows)
    grid[~has_row] = -1
    return _Grid(
        sample_ids=sample_ids.take(pa.array(sample_of)),
        cells=cells,
        cell=cell_of,
        row=np.where(has_row, rows[grid], -1),
        truth=np.where(has_row, truth[grid], _EMPTY),
        prediction=np.where(has_row, prediction[grid], _EMPTY),
        texts=list(texts.numbers),
    )


def _levels(column: pa.ChunkedArray) -> IntArray:
    """int64[R]: -1 for what is no whole number."""
    try:
        whole = column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        whole = pa.chunked_array([[_whole(value) for value in column.to_pylist()]], pa.int64())
    return np.asarray(whole.fill_null(-1).to_numpy())


def _whole(value: object) -> int:
    try:
        number = float(str(value))
    except ValueError:
        return -1
    return int(number) if number.is_integer() and 0 <= number < _MANY_LEVELS else -1


def _grid_of_paths(path: Path, table: pa.Table, taxonomy: Taxonomy, faults: _Faults) -> _Grid:
    """Every row is a sample."""
    rows = table["row"].to_numpy()
    samples, sample_ids = encode(table["sample_id"])
    cells, cell = _cells(table)
    faults.add("rows without a sample_id", rows, samples < 0)
    keys = cell * (len(sample_ids) + 1) + samples
    is_repeated = np.ones(len(rows), dtype=np.bool_)
    is_repeated[np.unique(keys, return_index=True)[1]] = False
    faults.add(
        "rows that give a sample again",
        rows,
        is_repeated & (samples >= 0),
        lambda row: f"sample {table['sample_id'][row].as_py()!r}",
    )
    texts = _Texts()
    truth, prediction = (
        _WrittenPaths.of(table[name], texts, taxonomy, is_truth=name == "truth")
        for name in ("truth", "prediction")
    )
    from_root = _start_at_root(truth if truth.is_list.any() else prediction, texts, taxonomy)
    return _Grid(
        sample_ids=sample_ids.take(pa.array(samples, mask=samples < 0)),
        cells=cells,
        cell=cell,
        row=np.repeat(rows[:, None], truth.texts.shape[1], axis=1),
        truth=truth.below_root(from_root),
        prediction=prediction.below_root(from_root),
        texts=list(texts.numbers),
        hint="; a path is a list of names or of node ids, such a list as JSON, or a leaf",
    )


@dataclass(frozen=True, eq=False)
class _WrittenPaths:
    """Whole paths as they are written.

    Attributes:
        texts: int64[N, L], numbers of texts; L holds the longest path, the root, and one more.
        is_list: bool[N]: a list of names, which may start at the root or below it. A path that is
            given by its leaf starts at the root.
    """

    texts: IntArray
    is_list: BoolArray

    @classmethod
    def of(
        cls, column: pa.ChunkedArray, texts: _Texts, taxonomy: Taxonomy, *, is_truth: bool
    ) -> _WrittenPaths:
        width = max(node.depth for node in taxonomy.nodes) + 2
        num_unknown = 2 if is_truth else width  # a truth is told once, an answer wrong throughout
        if pa.types.is_nested(column.type):
            lengths = pc.list_value_length(column).fill_null(0).to_numpy()
            numbers = texts.of(pc.list_flatten(column))
            grid = np.full((len(column), width), _EMPTY, dtype=np.int64)
            place = np.arange(len(numbers)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            is_kept = place < width
            samples = np.repeat(np.arange(len(column)), lengths)
            grid[samples[is_kept], place[is_kept]] = numbers[is_kept]
            return cls(grid, lengths > 0)
        codes, values = encode(column)
        distinct = np.full((len(values) + 1, width), _EMPTY, dtype=np.int64)
        is_list = np.zeros(len(values) + 1, dtype=np.bool_)
        for place, value in enumerate(values.to_pylist()):
            written = _names_of_list(value)
            is_list[place] = written is not None
            names = _names_of_leaf(value, taxonomy, num_unknown) if written is None else written
            found = [texts.number(name) for name in names[:width]]
            distinct[place, : len(found)] = found
        return cls(distinct[codes], is_list[codes])

    def below_root(self, from_root: bool) -> IntArray:
        """int64[N, L], column 0 being the root's; lists start there or at column 1."""
        if from_root:
            return self.texts
        shifted = np.full_like(self.texts, _EMPTY)
        shifted[:, 1:] = self.texts[:, :-1]
        return np.where(self.is_list[:, None], shifted, self.texts)


def _names_of_list(text: str) -> Sequence[str | None] | None:
    """The names of a list as JSON; None if the text is none."""
    if not text.lstrip().startswith("["):
        return None
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not all(name is None or isinstance(name, str) for name in names):
        return None
    return list(names)


def _names_of_leaf(text: str, taxonomy: Taxonomy, num_unknown: int) -> Sequence[str]:
    """Node ids from the root to a node, or to a leaf by its label.

    A text that is neither stands at so many levels, where it is found to be unknown.
    """
    text = text.strip()
    try:
        node = taxonomy[text] if text in taxonomy else taxonomy.leaf(text)
    except LookupError:
        return [text] * num_unknown
    return [taxonomy.root.id, *(each.id for each in taxonomy.path(node))]


def _start_at_root(paths: _WrittenPaths, texts: _Texts, taxonomy: Taxonomy) -> bool:
    """Whether every list of a file begins with the root, and no node below it has its name."""
    root = taxonomy.root
    first = np.unique(paths.texts[paths.is_list, 0])
    written = list(texts.numbers)
    names = {written[number].casefold() for number in first.tolist() if number != _EMPTY}
    return (
        bool(names)
        and bool(root.name)
        and names <= {root.name.casefold(), root.id.casefold()}
        and not taxonomy.named(root.name, 1)
    )


class _Lookup:
    """Finds the nodes that texts stand for; each distinct text is looked up once a level."""

    def __init__(self, taxonomy: Taxonomy, nodes: NodeTable, grid: _Grid) -> None:
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
    faults: _Faults, grid: _Grid, truth: Numbers, nodes: NodeTable, taxonomy: Taxonomy
) -> None:
    """Everything that makes a truth none."""

    def nearest(sample: int, column: int) -> str:
        text = grid.texts[grid.truth[sample, column]]
        there = {n.name.casefold(): n.name for n in nodes.nodes if n.depth == column + first_level}
        near = difflib.get_close_matches(text.casefold(), there, n=1)
        hint = f"; did you mean {there[near[0]]!r}?" if near else grid.hint
        return grid.text(grid.truth, sample, column) + hint

    first_level = grid.first_level
    has = grid.truth != _EMPTY
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
