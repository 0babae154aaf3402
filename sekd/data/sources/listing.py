"""The layout ``list``: a text with a path and the numbers of its classes in each line.

``train.txt`` of the Grocery Store Dataset (``path, fine id, coarse id``, with ``classes.csv``
beside it) and ``Ebay_train.txt`` of Stanford Online Products (a header ``image_id class_id
super_class_id path``) are of this layout. Cells are divided by commas or spaces. Without a header,
the first number of a line is its class and the second one the class above.

``classes`` is a table of names; without it ``classes.csv`` is taken where it lies beside the list.
Its first column of texts and its first column of numbers are the names and the ids of the classes,
the second ones those of the classes above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.data.sources.base import Rows, Source
from sekd.data.taxonomies.base import LeafPath
from sekd.errors import ConfigError
from sekd.io.tables import read_chunks
from sekd.io.text import read_lines

_CLASS_COLUMNS, _COARSE_COLUMNS = ("class_id", "label", "fine_id"), ("super_class_id", "coarse_id")
_NUMBER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class _Line:
    number: int
    path: str
    fine: str | None
    coarse: str | None


class ListSource(Source):
    """Reads the lines of ``table`` in their order."""

    setting = "table"

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read all lines; a label is the number of a class."""
        lines = list(_read_list(_list_path(spec)))
        yield Rows(
            ids=[line.path for line in lines],
            labels=[line.fine for line in lines],
            numbers=[line.number for line in lines],
        )

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return ``image_root``, or the list's own folder."""
        return spec.image_root or _list_path(spec).parent

    def place(self, spec: DatasetSpec, number: int) -> str:
        """Name a line of the list."""
        return f"{_list_path(spec)}, line {number}"

    def class_names(self, spec: DatasetSpec) -> Mapping[str, Sequence[str]]:
        """Return the number of a class -> its name, where there is a table of classes."""
        names, _ = _read_classes(spec)
        return {number: [name] for number, name in names.items()}

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Return coarse > fine, by the names of the table of classes or else by the folders.

        Without a table, a class above is named by the first folder of its images, as in Stanford
        Online Products (``bicycle_final``), and a class by its number.
        """
        fine_names, coarse_names = _read_classes(spec)
        leaves: dict[str, LeafPath] = {}
        for line in _read_list(_list_path(spec)):
            if line.fine is None or line.fine in leaves:
                continue
            fine = fine_names.get(line.fine, f"class {line.fine}")
            path: tuple[tuple[str, str | None], ...] = ((fine, "class"),)
            if line.coarse is not None:
                folder = line.path.partition("/")[0].removesuffix("_final")
                path = ((coarse_names.get(line.coarse, folder), "superclass"), *path)
            leaves[line.fine] = LeafPath(self.place(spec, line.number), line.fine, path)
        return [leaves[label] for label in sorted(leaves, key=int)]


def _list_path(spec: DatasetSpec) -> Path:
    assert spec.table is not None  # the registry gives this source only then
    return spec.table


def _read_list(path: Path) -> Iterator[_Line]:
    header: list[str] | None = None
    for number, line in read_lines(path):
        cells = [c.strip() for c in (line.split(",") if "," in line else line.split())]
        if number == 1 and "path" in cells:
            header = cells
            continue
        numbers = [cell for cell in cells if _NUMBER.fullmatch(cell)]
        paths = [cell for cell in cells if not _NUMBER.fullmatch(cell)]
        if len(paths) != 1 or (header is not None and len(cells) != len(header)):
            raise ConfigError(
                f"{path}, line {number}: expected one path and the numbers of its classes, got "
                f"{line!r:.80}"
            )
        if header is not None:
            row = dict(zip(header, cells, strict=True))
            fine = next((row[name] for name in _CLASS_COLUMNS if name in row), None)
            coarse = next((row[name] for name in _COARSE_COLUMNS if name in row), None)
        else:
            fine, coarse, *_ = *numbers, None, None
        yield _Line(number, paths[0], fine, coarse)


def _read_classes(spec: DatasetSpec) -> tuple[dict[str, str], dict[str, str]]:
    """Return id -> name of the classes and of those above; both empty without a table."""
    path = spec.classes or _list_path(spec).with_name("classes.csv")
    if spec.classes is None and not path.is_file():
        return {}, {}
    fine: dict[str, str] = {}
    coarse: dict[str, str] = {}
    for chunk in read_chunks(path):
        columns = [chunk.texts(name) for name in chunk.columns]
        numbers = [c for c in columns if all(map(_NUMBER.fullmatch, c))]
        names = [c for c in columns if not all(map(_NUMBER.fullmatch, c))]
        if not numbers or not names:
            raise ConfigError(f"{path}: expected a column of names and a column of their numbers")
        fine |= dict(zip(numbers[0], names[0], strict=True))
        if len(numbers) > 1 and len(names) > 1:
            coarse |= dict(zip(numbers[1], names[1], strict=True))
    return fine, coarse
