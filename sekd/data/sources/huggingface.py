"""The layout ``huggingface``: a dataset of the Hub, in Parquet or as ``datasets`` saved it.

``images`` is a Parquet file, a folder of them (a clone of a dataset's repository, with
``data/train-00000-of-00004.parquet``), or a folder of ``save_to_disk``. Images stay in these files.
The names of classes come from the schema: a column of the type ``ClassLabel`` holds their numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import DatasetSpec
from sekd.config.messages import nearest
from sekd.data.image_refs import cell_ref, open_arrow
from sekd.data.sources.base import Rows, Source
from sekd.data.taxonomies.base import LeafPath
from sekd.errors import ConfigError, in_one_line
from sekd.io.directories import entries_below
from sekd.io.text import read_json, refuse_irregular

_ROWS_PER_CHUNK = 1 << 14


@dataclass(frozen=True)
class _DataFile:
    """One file of a dataset.

    Attributes:
        name: its path below the dataset's folder.
        schema: of its columns.
    """

    path: Path
    name: str
    schema: pa.Schema

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows; images are not read with them.

        Raises:
            ConfigError: if the file is damaged.
        """
        try:
            yield from self._batches(list(columns))
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{self.path}: cannot be read: {in_one_line(error)}") from error

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        if self.path.suffix == ".arrow":
            table = open_arrow(self.path, self.path.stat().st_mtime_ns)
            yield from table.select(columns).to_batches(_ROWS_PER_CHUNK)
            return
        with pq.ParquetFile(self.path) as file:
            if columns:
                yield from file.iter_batches(_ROWS_PER_CHUNK, columns=columns)
            else:
                counts = pa.array(range(file.metadata.num_rows))
                yield pa.RecordBatch.from_arrays([counts], ["row"])


class HuggingFaceSource(Source):
    """Reads the rows of all files of a split, in the order of the files' names."""

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read the labels of all rows, and ids where a column of them is named."""
        files = _files(spec)
        if not files:
            raise ConfigError(f"{spec.images}: no Parquet or Arrow file in it")
        features = _features(spec, files[0])
        image = _image_column(spec, files[0], features)
        label = _label_column(spec, files[0])
        names = _names_of_classes(features, label)
        columns = [name for name in dict.fromkeys((label, spec.id_column)) if name]
        number = 0
        for file in files:
            row = 0
            scheme = "arrow" if file.path.suffix == ".arrow" else "parquet"
            for batch in file.batches(columns):
                rows = range(row, row + len(batch))
                labels = batch[label].to_pylist() if label else [None] * len(batch)
                ids = batch[spec.id_column].to_pylist() if spec.id_column else None
                yield Rows(
                    ids=[str(i) for i in ids] if ids else [f"{file.name}/{r}" for r in rows],
                    images=[cell_ref(scheme, r, image, file.name) for r in rows],
                    labels=[_label_text(value, names, file, label) for value in labels],
                    numbers=range(number + 1, number + len(batch) + 1),
                )
                row, number = rows.stop, number + len(batch)

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder of the dataset, or that of the one file."""
        assert spec.images is not None
        return spec.images if spec.images.is_dir() else spec.images.parent

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Return the paths of the columns that ``level_names`` names, root first.

        Raises:
            ConfigError: if there is no such column.
        """
        files = _files(spec)
        if not spec.level_names or not files:
            raise ConfigError(
                f"{spec.images}: give `taxonomy`, or the columns that hold the levels, root first, "
                "as `level_names`"
            )
        features, label = _features(spec, files[0]), _label_column(spec, files[0])
        columns = [*spec.level_names, *([label] if label else [])]
        for name in columns:
            _check_column(name, files[0])
        names_of = [_names_of_classes(features, name) for name in columns]
        leaves: dict[str, LeafPath] = {}
        for file in files:
            for batch in file.batches(list(dict.fromkeys(columns))):
                for values in set(zip(*(batch[name].to_pylist() for name in columns), strict=True)):
                    texts = [
                        _label_text(value, names, file, name)
                        for value, names, name in zip(values, names_of, columns, strict=True)
                    ]
                    levels = zip(texts, spec.level_names, strict=False)
                    path = tuple((text, rank) for text, rank in levels if text)
                    key = texts[-1] if label else path[-1][0] if path else None
                    if key and path:
                        leaves.setdefault(key, LeafPath(str(file.path), key, path))
        return [leaves[key] for key in sorted(leaves)]


def _files(spec: DatasetSpec) -> list[_DataFile]:
    """List the files of the split.

    A file belongs to the split whose name its own begins with (``train-00000-of-00004.parquet``),
    or that of a folder above it; a folder of ``save_to_disk`` has a folder for each split.

    Raises:
        ConfigError: if there are several splits and none is named, or the named one is absent.
    """
    assert spec.images is not None
    root = spec.images
    if not root.exists():
        raise ConfigError(f"{root}: no such dataset")
    if root.is_file():
        return [_open_data_file(root, root.name)]
    paths = sorted(
        path
        for path in entries_below(root)
        if path.suffix in (".parquet", ".arrow") and not path.name.startswith((".", "cache-"))
    )
    if not paths:
        return []
    split_of = {path: _split_of(path.relative_to(root)) for path in paths}
    splits = sorted(set(split_of.values()))
    if (spec.split is None and len(splits) > 1) or (
        spec.split is not None and spec.split not in splits
    ):
        named = "" if spec.split is None else f"there is no split {spec.split!r}; "
        raise ConfigError(f"{root}: {named}split: name one of {', '.join(splits)}")
    chosen = splits[0] if spec.split is None else spec.split
    files = [path for path, split in split_of.items() if split == chosen]
    folders = sorted({str(path.parent) for path in files})
    if len(folders) > 1:  # several configurations of a dataset, or copies of one
        raise ConfigError(
            f"{root}: the split {chosen!r} is in several folders; give one of them as images: "
            f"{', '.join(folders)}"
        )
    return [_open_data_file(path, path.relative_to(root).as_posix()) for path in files]


def _split_of(path: Path) -> str:
    """Return the split of a file by its own name, or by the folder that it lies in.

    The names are ``train-00000-of-00002.parquet`` or ``train.parquet``, or in the folder of a split
    ``0000.parquet`` and ``data-00000-of-00002.arrow``.
    """
    prefix = path.stem.partition("-")[0]
    is_numbered = prefix.isdigit() or prefix in ("data", "part", "shard")
    return path.parent.name if is_numbered and path.parent.name else prefix


@lru_cache(maxsize=4096)
def _schema(path: Path, _mtime_ns: int) -> pa.Schema:
    try:
        if path.suffix == ".arrow":
            return open_arrow(path, _mtime_ns).schema
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        kind = path.suffix[1:].title()
        raise ConfigError(f"{path}: not a {kind} file: {in_one_line(error)}") from error


def _open_data_file(path: Path, name: str) -> _DataFile:
    refuse_irregular(path)
    return _DataFile(path, name, _schema(path, path.stat().st_mtime_ns))


def _features(spec: DatasetSpec, file: _DataFile) -> dict[str, Any]:
    """Return column -> its type as ``datasets`` describes it, in the schema or beside the data."""
    metadata = (file.schema.metadata or {}).get(b"huggingface")
    try:
        if metadata:
            features = json.loads(metadata)["info"]["features"]
        elif (file.path.parent / "dataset_info.json").is_file():
            features = read_json(file.path.parent / "dataset_info.json")["features"]
        else:
            return {}
        return {name: f for name, f in features.items() if isinstance(f, dict)}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file.path}: its features cannot be read: {error!r:.100}") from error


def _check_column(name: str, file: _DataFile) -> None:
    if name not in file.schema.names:
        raise ConfigError(f"{file.path}: no column {name!r}{nearest(name, file.schema.names)}")


def _image_column(spec: DatasetSpec, file: _DataFile, features: Mapping[str, Any]) -> str:
    """Return ``image_column``, or the one column of images where that one is absent."""
    if spec.image_column not in file.schema.names:
        images = [name for name, feature in features.items() if feature.get("_type") == "Image"]
        if len(images) == 1 and spec.image_column == "image":
            return images[0]
        _check_column(spec.image_column, file)
    return spec.image_column


def _label_column(spec: DatasetSpec, file: _DataFile) -> str | None:
    """Return ``leaf_column``; ``None`` where the default one is absent."""
    if spec.leaf_column not in file.schema.names:
        if spec.leaf_column == "label":
            return None
        _check_column(spec.leaf_column, file)
    return spec.leaf_column


def _names_of_classes(features: Mapping[str, Any], column: str | None) -> Sequence[str] | None:
    feature = features.get(column or "", {})
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return names if isinstance(names, list) else None


def _label_text(
    value: Any, names: Sequence[str] | None, file: _DataFile, column: str | None
) -> str | None:
    """Return the name of a class; ``None`` for a null or -1, which stands for no label."""
    if value is None or (names is not None and value == -1):
        return None
    if names is not None and isinstance(value, int):
        if not 0 <= value < len(names):
            raise ConfigError(f"{file.path}: {column}: no class {value} among {len(names)}")
        return names[value]
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value) or None
    raise ConfigError(f"{file.path}: {column} must hold texts or numbers, not {value!r:.40}")
