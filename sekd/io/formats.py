"""Read tables as other programs write them: rows of cells, each with the number of its line or row.

Read are CSV and TSV of any delimiter and encoding, JSONL (NDJSON), JSON, XLSX, Parquet, the folders
that Hugging Face ``datasets`` saves, and any text format compressed with gzip or Zstandard. What is
found rather than told (a delimiter, an encoding, a sheet) is kept in :attr:`TableFile.notes`, to be
said. :mod:`sekd.io.tables` reads the large plain formats faster, and as Arrow columns.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.errors import ConfigError
from sekd.io.directories import files_below
from sekd.io.formats_json import rows_of_json

Cells: TypeAlias = Mapping[str, Any]
"""Column -> cell of one row; a column that the row does not have is absent."""

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_DELIMITERS = (",", "\t", ";", "|")
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_FALLBACK_ENCODING = "cp1252"
"""The encoding that Excel on Windows writes. It is taken where a text is not UTF-8, and this is
noted."""
_PEEKED_BYTES = 1 << 16


@dataclass
class TableFile:
    """A table of any format that this module reads.

    Attributes:
        path: a file, or a folder that ``datasets`` saved.
        suffix: of the format, such as ``.csv``, also where the file is compressed; ``folder`` for a
            folder.
        compression: as Arrow names it; ``None`` for a plain file.
        encoding, delimiter: of a text; ``None`` where they are to be found.
        notes: sentences about what was found rather than told; complete once the rows were read.
    """

    path: Path
    suffix: str
    compression: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls, path: Path, *, encoding: str | None = None, delimiter: str | None = None
    ) -> TableFile:
        """Tell the format of a file by its name, and find out what else is needed to read it.

        Args:
            encoding: of a text; it is found if this is ``None``.
            delimiter: between the cells of a CSV or TSV; it is found if this is ``None``.

        Raises:
            ConfigError: if there is no such file, or its format is none of :data:`FORMATS`.
        """
        if not path.exists():
            raise ConfigError(f"{path}: no such file")
        suffix, compression = _format_of(path)
        file = cls(path, suffix, compression, encoding, delimiter)
        if suffix in (".csv", ".tsv"):
            with file._naming_errors():
                file._find_encoding()
                file._find_delimiter()
        return file

    @property
    def unit(self) -> str:
        """The word for what a row's number counts: ``line`` in a text, else ``row``."""
        return "line" if self.suffix in (".csv", ".tsv", ".jsonl", ".ndjson") else "row"

    def place(self, number: int) -> str:
        """Return where a row stands, for messages: ``birds.tsv, line 7``."""
        return f"{self.path}, {self.unit} {number}"

    def rows(self) -> Iterator[tuple[int, Cells]]:
        """Yield every row with its number; blank lines are skipped.

        Raises:
            ConfigError: if the file is malformed or cannot be read; the message names the place.
        """
        with self._naming_errors():
            yield from FORMATS[self.suffix](self)

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """Raise what a library raises about the file as a ConfigError that names it."""
        try:
            yield
        except (OSError, EOFError, pa.ArrowException) as error:
            raise ConfigError(f"{self.path}: cannot be read: {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{self.path}: not a text in {self.encoding or 'UTF-8'}: {error}; name its encoding"
            ) from error

    def open_bytes(self) -> pa.NativeFile:
        """Open the file, decompressed."""
        return pa.input_stream(str(self.path), compression=self.compression)

    def open_text(self) -> io.TextIOWrapper:
        """Open the file as a text with its line breaks as they are."""
        return io.TextIOWrapper(
            self.open_bytes(), encoding=self.encoding or "utf-8-sig", newline=""
        )

    def _find_encoding(self) -> None:
        if self.encoding is not None:
            return
        with self.open_bytes() as stream:
            head = stream.read(4)
        self.encoding = next(
            (name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8"
        )
        try:
            with self.open_text() as text:
                while text.read(_PEEKED_BYTES):
                    pass
        except UnicodeDecodeError as error:
            self.encoding = _FALLBACK_ENCODING
            self.notes.append(
                f"{self.path}: not UTF-8 ({error.reason}); it is read as {_FALLBACK_ENCODING}, the "
                "encoding of Windows; name its encoding if that is wrong"
            )

    def _find_delimiter(self) -> None:
        """Take the delimiter that occurs most often in the header, outside of quotes."""
        if self.delimiter is not None:
            return
        with self.open_text() as text:
            header = text.readline()
        unquoted = "".join(header.split('"')[::2])
        preferred = "\t" if self.suffix == ".tsv" else ","
        counts = {delimiter: unquoted.count(delimiter) for delimiter in _DELIMITERS}
        self.delimiter = max(
            counts, key=lambda delimiter: (counts[delimiter], delimiter == preferred)
        )
        if not counts[self.delimiter]:
            self.delimiter = preferred
        if self.delimiter != preferred:
            self.notes.append(
                f"{self.path}: its cells are taken to be divided by {self.delimiter!r}"
            )


def _format_of(path: Path) -> tuple[str, str | None]:
    """Return the suffix of a file's format, and its compression."""
    if path.is_dir():
        return "folder", None
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in FORMATS:
        known = ", ".join(name for name in FORMATS if name.startswith("."))
        raise ConfigError(
            f"{path}: a table ends in one of {known}, with .gz or .zst behind it where it is "
            "compressed, or is a folder that datasets saved"
        )
    return suffix, compression


def _rows_of_csv(file: TableFile) -> Iterator[tuple[int, Cells]]:
    """Read a CSV strictly: a stray quote is refused, because it may swallow the rows behind it."""
    delimiter = file.delimiter or ","
    with file.open_text() as text:
        reader = csv.reader(text, strict=True, delimiter=delimiter)
        try:
            lines = ((reader.line_num, cells) for cells in reader if cells)
            line, header = next(lines, (1, []))
            names = [name.strip() for name in header]
            if len(set(names)) < len(names):
                raise ConfigError(f"{file.place(line)}: two columns of one name")
            for line, cells in lines:
                if len(cells) != len(names):
                    raise ConfigError(
                        f"{file.place(line)}: {len(cells)} cells under {len(names)} columns"
                    )
                yield line, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise ConfigError(
                f"{file.place(reader.line_num)}: {error}; a quote that is not closed swallows the "
                "lines behind it"
            ) from error


def _rows_of_jsonl(file: TableFile) -> Iterator[tuple[int, Cells]]:
    with file.open_text() as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{file.place(number)}: not JSON: {error}") from error
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise ConfigError(f"{file.place(number)}: expected an object, got {kind}")
            yield number, row


def _rows_of_json(file: TableFile) -> Iterator[tuple[int, Cells]]:
    with file.open_text() as text:
        try:
            content = json.load(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{file.path}: not JSON: {error}") from error
    yield from enumerate(rows_of_json(content, file.path), start=1)


def _rows_of_xlsx(file: TableFile) -> Iterator[tuple[int, Cells]]:
    """Read the first sheet; its first row names the columns."""
    try:
        import openpyxl  # an extra: only this format needs it
    except ImportError as error:
        raise ConfigError(
            f"{file.path}: XLSX needs openpyxl; install sekd with the extra 'files'"
        ) from error
    try:
        book = openpyxl.load_workbook(file.path, read_only=True, data_only=True)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file.path}: not an XLSX file: {error}") from error
    try:
        sheet = book.worksheets[0]
        if len(book.sheetnames) > 1:
            file.notes.append(
                f"{file.path}: the first of its sheets is read, {sheet.title!r}; the others are "
                f"{', '.join(map(repr, book.sheetnames[1:]))}"
            )
        rows = enumerate(sheet.iter_rows(values_only=True), start=1)
        _, header = next(rows, (1, ()))
        names = ["" if name is None else str(name).strip() for name in header]
        for number, cells in rows:
            if any(cell is not None for cell in cells):
                row = zip(names, map(_cell_of_sheet, cells), strict=False)
                yield number, {name: cell for name, cell in row if name}
    finally:
        book.close()


def _cell_of_sheet(cell: Any) -> Any:
    """Return a sheet's cell; every number there is a float, also one that was typed as 7."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _rows_of_parquet(file: TableFile) -> Iterator[tuple[int, Cells]]:
    with pq.ParquetFile(file.path) as parquet:
        yield from _rows_of_batches(parquet.iter_batches())


def _rows_of_folder(file: TableFile) -> Iterator[tuple[int, Cells]]:
    """Read a folder that ``Dataset.save_to_disk`` wrote, or one of Parquet files."""
    state = file.path / "state.json"
    if (file.path / "dataset_dict.json").is_file():
        splits = json.loads((file.path / "dataset_dict.json").read_text("utf-8"))["splits"]
        raise ConfigError(f"{file.path}: holds several splits; name one: {', '.join(splits)}")
    if state.is_file():
        files = json.loads(state.read_text("utf-8"))["_data_files"]
        batches: Iterator[pa.RecordBatch] = (
            batch
            for entry in files
            for batch in pa.ipc.open_stream(pa.memory_map(str(file.path / entry["filename"])))
        )
    else:
        paths = sorted(path for path in files_below(file.path) if path.suffix == ".parquet")
        if not paths:
            raise ConfigError(
                f"{file.path}: a folder without state.json (of datasets) or Parquet files"
            )
        batches = (batch for path in paths for batch in pq.ParquetFile(path).iter_batches())
    names_of = _class_names(file.path)
    for number, row in _rows_of_batches(batches):
        yield (
            number,
            {
                column: names_of[column][cell] if column in names_of and cell is not None else cell
                for column, cell in row.items()
            },
        )


def _rows_of_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Cells]]:
    yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


def _class_names(folder: Path) -> dict[str, Sequence[str]]:
    """Return column -> names of its classes, for the columns that hold numbers of classes."""
    info = folder / "dataset_info.json"
    if not info.is_file():
        return {}
    features = json.loads(info.read_text("utf-8")).get("features") or {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


FORMATS: Mapping[str, Callable[[TableFile], Iterator[tuple[int, Cells]]]] = {
    ".csv": _rows_of_csv,
    ".tsv": _rows_of_csv,
    ".jsonl": _rows_of_jsonl,
    ".ndjson": _rows_of_jsonl,
    ".json": _rows_of_json,
    ".xlsx": _rows_of_xlsx,
    ".parquet": _rows_of_parquet,
    "folder": _rows_of_folder,
}
"""Suffix, or ``folder`` -> how its rows are read."""
