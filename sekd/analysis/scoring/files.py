"""Read a file of predictions as columns, in whatever format and layout it was written.

Large plain files (CSV, JSONL, Parquet in the standard layout) are read as Arrow columns; every
other one row by row, with :mod:`sekd.io.formats` and :mod:`.layouts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.scoring.layouts import (
    REQUIRED_COLUMNS,
    Layout,
    find_layout,
    ranks_of,
    rename_columns,
)
from sekd.analysis.scoring.matches import NameMatches
from sekd.analysis.scoring.truths import truth_source
from sekd.data.predictions import PREDICTION_SCHEMA, scored_rows
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.artefacts import check_recorded
from sekd.io.formats import Cells, TableFile
from sekd.io.records import DamagedFileError
from sekd.io.tables import TABLE_SUFFIXES, column_names, is_text, read_columns, row_units

CELL_COLUMNS = ("model", "dataset", "paradigm", "control")
"""Columns whose values tell apart what is scored apart."""
_KNOWN_COLUMNS = (*REQUIRED_COLUMNS, "level", *CELL_COLUMNS)
_ENCODED_COLUMNS = ("truth", "prediction", *CELL_COLUMNS)  # of few distinct texts


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Settings that describe a file of predictions.

    Attributes:
        columns: name in the standard layout -> name of the column in the file.
        delimiter, encoding: of a text; ``None`` where they are to be found.
        truth: where truths come from that are not in the file; see :mod:`.truths`.
        cluster: a column of the file, or a rank of the taxonomy, by which samples belong together.
        completes_leaves: an answer that is a leaf alone stands for its whole path.
        allows_unknown: score also where most answers are not in the taxonomy.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    truth: str | None = None
    cluster: str | None = None
    completes_leaves: bool = False
    allows_unknown: bool = False


@dataclass(frozen=True)
class PredictionTable:
    """The columns of a file in the standard layout, and ``row``, which counts from 0.

    Attributes:
        table: ``truth`` and ``prediction`` are texts (plain or dictionary-encoded) or lists of
            texts, the cell columns and ``cluster`` are texts, ``level`` is as it is written.
        place_rows: names the file's rows of some values of ``row``: "line 7".
        notes: sentences about what was found and not told.
        rotated: the cells of sekd's own file of which several rotations were asked.
    """

    path: Path
    table: pa.Table
    place_rows: Callable[[Sequence[int]], list[str]]
    notes: Sequence[str] = ()
    rotated: Sequence[Mapping[str, str]] = ()


def read_prediction_table(path: Path, taxonomy: Taxonomy, options: FileOptions) -> PredictionTable:
    """Read the columns of a file of predictions that count.

    Raises:
        ConfigError: if the file is missing, empty or malformed, a column is missing, or it is of
            an evaluation and not what was written.
    """
    try:
        check_recorded(path)
    except DamagedFileError as error:
        raise ConfigError(
            f"{error}; run the command that made it again, or score a copy"
        ) from error
    file = TableFile.open(path, encoding=options.encoding, delimiter=options.delimiter)
    is_plain = file.delimiter in (None, ",") and file.encoding in (None, "utf-8", "utf-8-sig")
    if is_plain and file.compression is None and path.suffix in TABLE_SUFFIXES:
        names = column_names(path)
        ours = rename_columns(names, options.columns, str(path))
        if set(REQUIRED_COLUMNS) <= {ours.get(name, name) for name in names}:
            return _read_plain(path, names, options)
    return _read_other(file, taxonomy, options)


def _read_plain(path: Path, names: Sequence[str], options: FileOptions) -> PredictionTable:
    wanted = {name: options.columns.get(name, name) for name in _KNOWN_COLUMNS}
    if options.cluster in names:
        wanted["cluster"] = str(options.cluster)
    wanted = {ours: theirs for ours, theirs in wanted.items() if theirs in names}
    encoded = [wanted[name] for name in _ENCODED_COLUMNS if name in wanted]
    rotated: Sequence[Mapping[str, str]] = ()
    if path.suffix == ".parquet" and names == PREDICTION_SCHEMA.names:
        # sekd's own file, which may hold several rotations of each question
        asked = read_columns(path, [*dict.fromkeys(wanted.values()), "rotation"], encoded=encoded)
        rotated = _rotated_cells(asked)
        table = scored_rows(asked)
    else:
        table = read_columns(path, list(dict.fromkeys(wanted.values())), encoded=encoded)
    if not len(table):
        raise ConfigError(f"{path}: no row of predictions")
    if path.suffix == ".csv":
        _refuse_open_quotes(path, len(table))
    columns = {ours: _check_type(path, ours, table[theirs]) for ours, theirs in wanted.items()}
    return PredictionTable(
        path,
        pa.table({**columns, "row": np.arange(len(table))}),
        place_rows=lambda rows: row_units(path, rows),
        rotated=rotated,
    )


def _rotated_cells(table: pa.Table) -> list[dict[str, str]]:
    turned = table.filter(pc.greater(table["rotation"], 0)).select(CELL_COLUMNS)
    plain = pa.table({name: turned[name].cast(pa.string()) for name in CELL_COLUMNS})
    cells: list[dict[str, str]] = plain.group_by(list(CELL_COLUMNS)).aggregate([]).to_pylist()
    return cells


def _refuse_open_quotes(path: Path, num_rows: int) -> None:
    """Read a CSV strictly where its cells hold line breaks, because an open quote makes such."""
    with path.open("rb") as stream:
        num_breaks = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    if num_breaks > num_rows + 1:
        for _ in TableFile.open(path).rows():
            pass


def _read_other(file: TableFile, taxonomy: Taxonomy, options: FileOptions) -> PredictionTable:
    numbered = list(file.rows())
    names = list(dict.fromkeys(name for _, cells in numbered for name in cells))
    if not numbered:
        raise ConfigError(f"{file.path}: no row of predictions")
    ours = rename_columns(names, options.columns, str(file.path))
    names = [ours.get(name, name) for name in names]
    layout = find_layout(names, taxonomy)
    if layout is None and options.truth and {"sample_id", "prediction"} <= set(names):
        layout = Layout("sample_id, prediction", lambda *_: True, lambda cells, _: dict(cells))
    if layout is None:
        raise ConfigError(_no_layout_message(file.path, names, taxonomy))
    rows: list[tuple[int, Cells]] = [
        (number, {ours.get(name, name): cell for name, cell in cells.items()})
        for number, cells in numbered
    ]
    if layout.score:
        rows = _best_rows(rows, layout.score)
    converted = [(number, cells, layout.convert(cells, taxonomy)) for number, cells in rows]
    _add_truths(file.path, [row for _, _, row in converted], taxonomy, options)
    columns = [*_KNOWN_COLUMNS, "cluster"]
    if options.cluster in names:
        for _, cells, row in converted:
            row["cluster"] = cells.get(str(options.cluster))
    present = [name for name in columns if any(name in row for _, _, row in converted)]
    table = pa.table(
        {name: [_cell_text(row.get(name)) for _, _, row in converted] for name in present},
        schema=pa.schema([(name, pa.string()) for name in present]),
    )
    numbers = [number for number, _, _ in converted]
    return PredictionTable(
        file.path,
        table.append_column("row", [np.arange(len(table))]),
        place_rows=lambda indices: [f"{file.unit} {numbers[index]}" for index in indices],
        notes=[*file.notes, f"{file.path} is read as {layout.name}"],
    )


def _no_layout_message(path: Path, names: Sequence[str], taxonomy: Taxonomy) -> str:
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    deepest = ranks_of(taxonomy)[-1]
    return (
        f"{path}: no column {missing[0]!r}; there are {', '.join(map(repr, names))}. Give "
        "sample_id, truth and prediction, and level where a row is one level, or name yours: "
        f"--columns {missing[0]}=...; columns per rank are named like truth_{deepest}"
    )


def _best_rows(rows: Sequence[tuple[int, Cells]], score: str) -> list[tuple[int, Cells]]:
    """Return the row of the highest score of each file, in the order of the files."""
    best: dict[Any, tuple[int, Cells]] = {}
    for number, cells in rows:
        kept = best.get(cells["file_name"])
        if kept is None or float(cells[score]) > float(kept[1][score]):
            best[cells["file_name"]] = number, cells
    return list(best.values())


def _add_truths(
    path: Path, rows: Sequence[dict[str, Any]], taxonomy: Taxonomy, options: FileOptions
) -> None:
    """Add the truths that come from elsewhere, and line up answers by rank with them."""
    if all("truth" in row for row in rows):
        return
    if options.truth is None:
        raise ConfigError(
            f"{path}: it holds no truths; name them: --truth labels.csv, or --truth folder where "
            "each image lies in a folder of its leaf"
        )
    truth_of, matches = truth_source(options.truth), NameMatches(taxonomy)
    without = []
    for row in rows:
        row["truth"] = truth_of(str(row["sample_id"]))
        leaf = matches.leaf(row["truth"]) if row["truth"] else None
        if row["truth"] is None:
            without.append(str(row["sample_id"]))
        if isinstance(row["prediction"], dict):
            by_rank = row["prediction"]
            ranks = [node.rank for node in taxonomy.path(leaf)] if leaf else list(by_rank)
            row["prediction"] = [by_rank.get(rank.casefold()) for rank in ranks]
    if without:
        raise ConfigError(
            f"{path}: {len(without):,} samples have no truth in {options.truth}, e.g. "
            f"{without[0]!r}"
        )


def _cell_text(cell: Any) -> str | None:
    """Return a cell as a text; a list of names as JSON, which :mod:`.path_rows` reads."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, list | tuple):
        return json.dumps([None if name is None else str(name) for name in cell])
    return str(cell)


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
