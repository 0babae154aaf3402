"""The layout in which every row is a whole sample, and truth and prediction are paths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.paths import BoolArray, IntArray
from sekd.analysis.scoring.faults import Faults
from sekd.analysis.scoring.grids import EMPTY, TextGrid, TextNumbers, encode_cells
from sekd.analysis.scoring.matches import NameMatches
from sekd.data.taxonomy import Taxonomy
from sekd.io.columns import encode_column

# Shapes: N samples, one per row; L levels, enough for the longest path, the root, and one more.


def grid_of_paths(
    table: pa.Table, taxonomy: Taxonomy, faults: Faults, matches: NameMatches
) -> TextGrid:
    """Build the grid of a table without a column ``level``; samples are in the order of rows."""
    rows = table["row"].to_numpy()
    id_of_row, sample_ids = encode_column(table["sample_id"])
    cells, cell_of_row = encode_cells(table)
    faults.add("rows without a sample_id", rows, id_of_row < 0)
    number_of_row = cell_of_row * (len(sample_ids) + 1) + id_of_row
    _, first_rows = np.unique(number_of_row, return_index=True)
    is_first = np.zeros(len(rows), dtype=np.bool_)
    is_first[first_rows] = True
    faults.add(
        "rows that give a sample again",
        rows,
        ~is_first & (id_of_row >= 0),
        lambda row: f"sample {table['sample_id'][row].as_py()!r}",
    )
    texts = TextNumbers(matches.is_missing)
    num_levels = max(node.depth for node in taxonomy.nodes) + 2
    # A text that is unknown stands in place of the root and of level 1 as a truth, which is one
    # fault below the root, and at every level as a prediction, which is wrong throughout.
    truth = _read_paths(table["truth"], texts, matches, taxonomy, num_levels, num_unknown=2)
    prediction = _read_paths(
        table["prediction"], texts, matches, taxonomy, num_levels, num_unknown=num_levels
    )
    lists = truth if truth.is_list.any() else prediction
    from_root = _lists_start_at_root(lists, texts, taxonomy)
    return TextGrid(
        sample_ids=sample_ids.take(pa.array(id_of_row, mask=id_of_row < 0)),
        cells=cells,
        cell=cell_of_row,
        row=np.repeat(rows[:, None], num_levels, axis=1),
        last_row=rows,
        truth=truth.by_level(from_root),
        prediction=prediction.by_level(from_root),
        texts=texts.texts,
        has_leaf_answers=~prediction.is_list & (prediction.texts != EMPTY).any(axis=1),
        hint="; a path is a list of names or of node ids, such a list as JSON, or a leaf",
    )


@dataclass(frozen=True, eq=False)
class _WrittenPaths:
    """Whole paths as they are written.

    Attributes:
        texts: int64[N, L], numbers of texts.
        is_list: bool[N], True for a list of names, which may start at the root or below it. A path
            that is given by its leaf starts at the root.
    """

    texts: IntArray
    is_list: BoolArray

    def by_level(self, from_root: bool) -> IntArray:
        """Return the paths with the root in column 0, int64[N, L].

        Args:
            from_root: lists start with the root; otherwise they start at level 1.
        """
        if from_root:
            return self.texts
        shifted = np.full_like(self.texts, EMPTY)
        shifted[:, 1:] = self.texts[:, :-1]
        return np.where(self.is_list[:, None], shifted, self.texts)


def _read_paths(
    column: pa.ChunkedArray,
    texts: TextNumbers,
    matches: NameMatches,
    taxonomy: Taxonomy,
    num_levels: int,
    *,
    num_unknown: int,
) -> _WrittenPaths:
    """Read a column of paths.

    Args:
        num_unknown: the number of levels that a text fills which is neither a list nor a leaf.
    """
    if pa.types.is_nested(column.type):
        return _paths_of_lists(column, texts, num_levels)
    codes, values = encode_column(column)
    # One more than there are values: the last one is for the code -1 of a null.
    path_of_code = np.full((len(values) + 1, num_levels), EMPTY, dtype=np.int64)
    is_list = np.zeros(len(values) + 1, dtype=np.bool_)
    for code, text in enumerate(values.to_pylist()):
        names = _parse_list(text)
        is_list[code] = names is not None
        if names is None:
            names = _path_of_leaf(text, matches, taxonomy, num_unknown)
        numbers = [texts.number(name) for name in names[:num_levels]]
        path_of_code[code, : len(numbers)] = numbers
    return _WrittenPaths(path_of_code[codes], is_list[codes])


def _paths_of_lists(column: pa.ChunkedArray, texts: TextNumbers, num_levels: int) -> _WrittenPaths:
    """Read a column of lists of texts. A null is an empty list."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    numbers = texts.encode(pc.list_flatten(column))
    row_of_item = np.repeat(np.arange(len(column)), lengths)
    start_of_item = np.repeat(np.cumsum(lengths) - lengths, lengths)
    index_of_item = np.arange(len(numbers)) - start_of_item
    fits = index_of_item < num_levels
    paths = np.full((len(column), num_levels), EMPTY, dtype=np.int64)
    paths[row_of_item[fits], index_of_item[fits]] = numbers[fits]
    return _WrittenPaths(paths, lengths > 0)


def _parse_list(text: str) -> Sequence[str | None] | None:
    """Return the names of a list that is written as JSON; ``None`` if the text is no such list."""
    if not text.lstrip().startswith("["):
        return None
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not all(name is None or isinstance(name, str) for name in names):
        return None
    return list(names)


def _path_of_leaf(
    text: str, matches: NameMatches, taxonomy: Taxonomy, num_unknown: int
) -> Sequence[str]:
    """Return the node ids from the root to the node with this id, or to the leaf of this label.

    A text that is neither is repeated ``num_unknown`` times, to be found unknown at each level.
    """
    text = text.strip()
    if matches.is_missing(text):
        return []
    node = matches.leaf(text)
    if node is None:
        return [text] * num_unknown
    return [taxonomy.root.id, *(below.id for below in taxonomy.path(node))]


def _lists_start_at_root(paths: _WrittenPaths, texts: TextNumbers, taxonomy: Taxonomy) -> bool:
    """Tell whether every list begins with the root, and no node right below it has its name."""
    root = taxonomy.root
    first_numbers = np.unique(paths.texts[paths.is_list, 0])
    written = texts.texts
    names = {written[number].casefold() for number in first_numbers.tolist() if number != EMPTY}
    return (
        bool(names)
        and bool(root.name)
        and names <= {root.name.casefold(), root.id.casefold()}
        and not taxonomy.named(root.name, 1)
    )
