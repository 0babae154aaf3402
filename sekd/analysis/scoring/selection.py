"""Choose the rows of a file that are scored, and the clusters of its samples."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.paths import IntArray, Paths
from sekd.analysis.scoring.files import PredictionTable
from sekd.analysis.scoring.grids import TextGrid, encode_cells
from sekd.analysis.scoring.matches import NameMatches
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.columns import encode_column


def select_rows(
    file: PredictionTable, only: Mapping[str, str], taxonomy: Taxonomy, matches: NameMatches
) -> tuple[pa.Table, list[str]]:
    """Return the rows with these values, without the cells of another taxonomy; and notes.

    Raises:
        ConfigError: if a column or a value is not in the file.
    """
    path, table = file.path, file.table
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
    return _without_other_taxonomies(file, table, taxonomy, matches)


def _without_other_taxonomies(
    file: PredictionTable, table: pa.Table, taxonomy: Taxonomy, matches: NameMatches
) -> tuple[pa.Table, list[str]]:
    """Leave out the cells of which the taxonomy has no truth, where it has those of another."""
    cells, cell_of_row = encode_cells(table)
    if len(cells) == 1 or pa.types.is_nested(table["truth"].type):
        return table, []
    codes, texts = encode_column(table["truth"])
    known_texts = [_is_known(text, taxonomy, matches) for text in texts.to_pylist()]
    is_known = np.array([*known_texts, False])  # the last one is for the code -1 of a null
    has_known = np.bincount(cell_of_row, is_known[codes], len(cells)) > 0
    if has_known.all() or not has_known.any():
        return table, []
    names = [" ".join(cells[index].values()) for index in np.flatnonzero(~has_known).tolist()]
    note = (
        f"{file.path}: {len(names)} cells have no truth in {taxonomy.source} and are left out: "
        f"{', '.join(map(repr, names))}"
    )
    return table.filter(pa.array(has_known[cell_of_row])), [note]


def _is_known(text: str, taxonomy: Taxonomy, matches: NameMatches) -> bool:
    if text in taxonomy:
        return True
    if text.lstrip().startswith("["):
        try:
            names = json.loads(text)
        except json.JSONDecodeError:
            return True  # the reader of paths says what is wrong
        return any(_is_known(str(name), taxonomy, matches) for name in names if name)
    depth = max(node.depth for node in taxonomy.nodes)
    return any(taxonomy.named(text, level) for level in range(depth + 1)) or (
        matches.leaf(text) is not None
    )


def clusters_of(
    paths: Paths, table: pa.Table, grid: TextGrid, taxonomy: Taxonomy, name: str
) -> IntArray:
    """Return the cluster of each sample, int64[N]: by a column of the file, or by a rank.

    Raises:
        ConfigError: if there is neither, or a sample has no value there.
    """
    if "cluster" in table.column_names:
        codes, _ = encode_column(table["cluster"])
        cluster_of_row = np.full(int(table["row"].to_numpy().max()) + 1, -1, dtype=np.int64)
        cluster_of_row[table["row"].to_numpy()] = codes
        clusters = cluster_of_row[grid.last_row]
        if (clusters < 0).any():
            sample = paths.sample_ids[int(np.flatnonzero(clusters < 0)[0])].as_py()
            raise ConfigError(f"--cluster {name}: sample {sample!r} has no value there")
    else:
        levels = {node.rank.casefold(): node.depth for node in taxonomy.nodes if node.depth}
        level = levels.get(name.casefold())
        if level is None or level < paths.first_level:
            raise ConfigError(
                f"--cluster {name}: neither a column of the file nor one of the taxonomy's ranks "
                f"({', '.join(levels)})"
            )
        # A sample that does not reach the rank is of the cluster of its leaf.
        column = np.minimum(level - paths.first_level, paths.num_levels - 1)
        clusters = paths.truth[np.arange(len(paths)), column].astype(np.int64)
    numbers: IntArray = np.unique(clusters, return_inverse=True)[1].reshape(-1)
    return numbers
