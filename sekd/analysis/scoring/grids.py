"""The texts of a table of predictions as a grid of samples and levels, whatever its layout.

The layouts are those of :mod:`sekd.analysis.scoring.resolve`. What makes a row unusable is told to
a :class:`Faults`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.paths import BoolArray, IntArray
from sekd.analysis.scoring.files import CELL_COLUMNS, places
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.columns import encode_column

EMPTY = -1
"""Instead of the number of a text: there is none."""
_NUM_LISTED = 3
_MANY_LEVELS = 1 << 15  # more than any taxonomy has


class Faults:
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
            what: the entries of this kind, in the plural.
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
        """Raise a ConfigError that tells all of them, if there is one."""
        if self.lines:
            raise ConfigError(f"{self._path}: {'; '.join(self.lines)}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """Texts of N samples (a sample of two cells is two) at L levels, each as a number.

    Attributes:
        cells: distinct values of the cell columns.
        cell: int64[N], place in ``cells``.
        row: int64[N, L], the file's row, from 0; -1 where there is none.
        truth: int64[N, L], place in ``texts`` or ``EMPTY``.
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

    def without_root(self, left_out: bool) -> Grid:
        """This grid, which starts at the root, or the one below the root."""
        if not left_out:
            return self
        return Grid(
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
        return self.numbers.setdefault(text, len(self.numbers)) if text else EMPTY

    def of(self, column: pa.ChunkedArray) -> IntArray:
        """int64[R]: the number of each row's text, or ``EMPTY``."""
        codes, values = encode_column(column)
        numbers = [self.number(text) for text in values.to_pylist()]
        return np.array([*numbers, EMPTY], dtype=np.int64)[codes]


def grid_of_levels(path: Path, table: pa.Table, taxonomy: Taxonomy, faults: Faults) -> Grid:
    """Read a table of which every row is a level of a sample."""
    for name in ("truth", "prediction"):
        if pa.types.is_nested(table[name].type):
            raise ConfigError(
                f"{path}: {name} is a list in a table with a column level, where a row is one "
                "level; leave level out, or give a name or node id a row"
            )
    rows = table["row"].to_numpy()
    depth = max(node.depth for node in taxonomy.nodes)
    samples, sample_ids = encode_column(table["sample_id"])
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
    used = np.flatnonzero(is_placed & (truth != EMPTY))
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
    return Grid(
        sample_ids=sample_ids.take(pa.array(sample_of)),
        cells=cells,
        cell=cell_of,
        row=np.where(has_row, rows[grid], -1),
        truth=np.where(has_row, truth[grid], EMPTY),
        prediction=np.where(has_row, prediction[grid], EMPTY),
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


def grid_of_paths(path: Path, table: pa.Table, taxonomy: Taxonomy, faults: Faults) -> Grid:
    """Read a table of which every row is a sample."""
    rows = table["row"].to_numpy()
    samples, sample_ids = encode_column(table["sample_id"])
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
    return Grid(
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
            grid = np.full((len(column), width), EMPTY, dtype=np.int64)
            place = np.arange(len(numbers)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            is_kept = place < width
            samples = np.repeat(np.arange(len(column)), lengths)
            grid[samples[is_kept], place[is_kept]] = numbers[is_kept]
            return cls(grid, lengths > 0)
        codes, values = encode_column(column)
        distinct = np.full((len(values) + 1, width), EMPTY, dtype=np.int64)
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
        shifted = np.full_like(self.texts, EMPTY)
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
    names = {written[number].casefold() for number in first.tolist() if number != EMPTY}
    return (
        bool(names)
        and bool(root.name)
        and names <= {root.name.casefold(), root.id.casefold()}
        and not taxonomy.named(root.name, 1)
    )


def _cells(table: pa.Table) -> tuple[list[dict[str, str]], IntArray]:
    """Distinct values of the cell columns, in order of appearance, and each row's place in them."""
    columns = [name for name in CELL_COLUMNS if name in table.column_names]
    key = np.zeros(len(table), dtype=np.int64)
    texts = []
    for name in columns:
        codes, values = encode_column(table[name])
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
