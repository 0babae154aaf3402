"""Source: a table (CSV, JSONL or Parquet) with one row per image.

Rows of the published benchmark (arXiv 2505.24840) are taken as they come: their columns
``level<k>`` are held against the taxonomy, and their ``choices_level<k>`` become the options.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import DatasetSpec
from sekd.data.sources.rows import Choices, Rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

Cells = Mapping[str, Any]
_ROWS_AT_A_TIME = 1 << 12
_ABSENT: Any = object()
"""The cell of a column that a row of JSONL does not have."""


@dataclass(frozen=True)
class _Table:
    """Some consecutive rows, as columns.

    Attributes:
        place: file and unit, for messages: ``birds.csv, line``.
        numbers: of the lines or rows.
    """

    place: str
    numbers: Sequence[int]
    columns: Mapping[str, Sequence[Any]]

    def at(self, index: int) -> str:
        return f"{self.place} {self.numbers[index]}"

    def cells(self, index: int) -> Cells:
        row = {name: column[index] for name, column in self.columns.items()}
        return {name: cell for name, cell in row.items() if cell is not _ABSENT}

    def where(self, mask: Sequence[bool]) -> _Table:
        columns = {name: list(compress(column, mask)) for name, column in self.columns.items()}
        return _Table(self.place, list(compress(self.numbers, mask)), columns)

    def texts(self, name: str) -> list[str]:
        """A column's texts, empty where a cell is null; whole numbers, common as ids, are text."""
        cells = self.columns.get(name, [_ABSENT] * len(self.numbers))
        if set(map(type, cells)) <= {str}:
            return [cell.strip() for cell in cells]
        return [self._text(index, name, cell) for index, cell in enumerate(cells)]

    def filled(self, name: str) -> list[str]:
        """A column's texts, none of which may be empty."""
        texts = self.texts(name)
        if not all(texts):
            raise ConfigError(f"{self.at(texts.index(''))}: the column {name!r} is empty")
        return texts

    def _text(self, index: int, name: str, cell: Any) -> str:
        if cell is _ABSENT:
            there = ", ".join(self.cells(index))
            raise ConfigError(f"{self.at(index)}: no column {name!r}; there are {there}")
        if cell is None:
            return ""
        if isinstance(cell, bool) or not isinstance(cell, (str, int)):
            raise ConfigError(f"{self.at(index)}: {name} must be text, not {type(cell).__name__}")
        return str(cell).strip()


def read_rows(path: Path, spec: DatasetSpec, taxonomy: Taxonomy) -> Iterator[Rows]:
    """Rows in the order of the table, those of other splits left out unread.

    Raises:
        ConfigError: naming the file and the line, if a column is missing or a value does not fit.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ConfigError(f"{path}: a table is .csv, .jsonl or .parquet, not {path.suffix!r}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such table")
    leaves = _Leaves(taxonomy)
    splits = set()
    for table in readers[path.suffix](path):
        if spec.split is not None:
            texts = table.texts("split")
            splits.update(texts)
            table = table.where([text == spec.split for text in texts])
        yield _rows(table, spec, leaves)
    if splits and spec.split not in splits:
        raise ConfigError(f"{path}: no row of the split {spec.split!r}, only of {sorted(splits)}")


def _rows(table: _Table, spec: DatasetSpec, leaves: _Leaves) -> Rows:
    images = _image_names(table, spec)
    labels = _labels(table, spec.leaf_column)
    found = leaves.find(table, labels)
    choices = None
    if any(name.startswith("choices_level") for name in table.columns):
        choices = [
            _choices(table.at(index), table.cells(index), leaf, leaves.taxonomy)
            for index, leaf in enumerate(found)
        ]
    ids = table.filled(spec.id_column) if spec.id_column else images
    return Rows(ids, images, found, choices, table.numbers)


class _Leaves:
    """Leaves by label, each label looked up once."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._known: dict[str, Node | None] = {"": None}

    def find(self, table: _Table, labels: Sequence[str]) -> list[Node | None]:
        for label in set(labels) - self._known.keys():
            try:
                self._known[label] = self.taxonomy.leaf(label)
            except LookupError as error:
                raise ConfigError(f"{table.at(labels.index(label))}: {error}") from error
        return [self._known[label] for label in labels]


def _labels(table: _Table, column: str) -> list[str]:
    if column not in table.columns:
        return [""] * len(table.numbers)
    cells = [None if cell is _ABSENT else cell for cell in table.columns[column]]
    return _Table(table.place, table.numbers, {column: cells}).texts(column)


def _image_names(table: _Table, spec: DatasetSpec) -> list[str]:
    written = table.filled(spec.image_column)
    if not spec.image_prefix:
        return written
    for index, text in enumerate(written):
        if not text.startswith(spec.image_prefix) or text == spec.image_prefix:
            raise ConfigError(
                f"{table.at(index)}: expected the image_prefix {spec.image_prefix!r} and a path, "
                f"got {text!r}"
            )
    return [text.removeprefix(spec.image_prefix) for text in written]


def _read_csv(path: Path) -> Iterator[_Table]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)  # an open quote would swallow the rows after it
            header = [cell.strip() for cell in next(reader, [])]
            if len(set(header)) < len(header):
                raise ConfigError(f"{path}, line 1: two columns of one name")
            numbered = ((reader.line_num, cells) for cells in reader if cells)
            while chunk := list(islice(numbered, _ROWS_AT_A_TIME)):
                numbers, rows = zip(*chunk, strict=True)
                for number, cells in chunk:
                    if len(cells) != len(header):
                        raise ConfigError(
                            f"{path}, line {number}: {len(cells)} cells under {len(header)} columns"
                        )
                columns = dict(zip(header, zip(*rows, strict=True), strict=True))
                yield _Table(f"{path}, line", numbers, columns)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from error


def _read_jsonl(path: Path) -> Iterator[_Table]:
    with path.open("rb") as file:
        lines = ((n, line) for n, line in enumerate(file, start=1) if line.strip())
        while chunk := list(islice(lines, _ROWS_AT_A_TIME)):
            rows = [_parse(f"{path}, line {number}", line) for number, line in chunk]
            names = dict.fromkeys(chain.from_iterable(rows))
            columns = {name: [row.get(name, _ABSENT) for row in rows] for name in names}
            yield _Table(f"{path}, line", [number for number, _ in chunk], columns)


def _parse(place: str, line: bytes) -> Cells:
    try:
        cells = json.loads(line.decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: not JSON in UTF-8: {error}") from error
    if not isinstance(cells, dict):
        raise ConfigError(f"{place}: expected an object, got {type(cells).__name__}")
    return cells


def _read_parquet(path: Path) -> Iterator[_Table]:
    start = 1
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME):
                numbers = range(start, start + len(batch))
                yield _Table(f"{path}, row", numbers, batch.to_pydict())
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: not a Parquet file: {error}") from error


def _choices(place: str, cells: Cells, leaf: Node | None, taxonomy: Taxonomy) -> Choices | None:
    """Options that the row brings along, by level number; those of an explicit root left out."""
    options, names = {}, {}
    for column in cells:
        match = re.fullmatch(r"(choices_)?level([0-9]+)", column)
        if match is None or cells[column] in (None, "", []):
            continue  # a ragged table has empty cells below its shorter paths
        if match[1]:
            options[int(match[2])] = _names(f"{place}: {column}", cells[column])
        else:
            names[int(match[2])] = str(cells[column]).strip()
    if not options:
        return None
    if leaf is None:
        raise ConfigError(f"{place}: options without a label")
    levels = sorted(names)
    path = [node.name for node in taxonomy.path(leaf)]
    root = taxonomy.root.name
    if root and _fold(names[level] for level in levels) == _fold([root, *path]):
        options.pop(levels.pop(0), None)
    if _fold(names[level] for level in levels) != _fold(path):
        raise ConfigError(
            f"{place}: its levels are {' > '.join(names[level] for level in sorted(names))}, "
            f"but {taxonomy.source} has {' > '.join(path)}"
        )
    if sorted(options) != levels:
        raise ConfigError(f"{place}: levels {levels} have names, but {sorted(options)} options")
    return tuple(options[level] for level in levels)


def _names(place: str, value: Any) -> tuple[str, ...]:
    """A list of names, in a CSV as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{place} must be a list as JSON: {error}") from error
    if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise ConfigError(f"{place} must be a list of names, got {value!r}")
    return tuple(value)


def _fold(names: Iterator[str] | list[str]) -> list[str]:
    return [name.casefold() for name in names]
