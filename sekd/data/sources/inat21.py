"""The layout ``inat21``: iNaturalist 2021 as it is unpacked, by its JSON files or its folders.

``train.json``, ``train_mini.json`` and ``val.json`` (in the style of COCO) name images, their
categories and the seven ranks of each category. Where the file of a split is absent, the folders of
the images are enough: ``train/00003_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus
_terrestris`` names the same ranks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sekd.config import DatasetSpec
from sekd.data.image_folders import walk_images
from sekd.data.sources.base import Rows, Source, chosen_split
from sekd.data.taxonomies.base import LeafPath
from sekd.data.taxonomies.trees import RANKS, category_leaves
from sekd.errors import ConfigError
from sekd.io.json_arrays import iterate_arrays

_ROWS_PER_CHUNK = 1 << 16
_NUM_PARTS = 2 + len(RANKS)  # the number, the ranks, and at least one word of the species

# Shapes: N images, M annotations.


class INat21Source(Source):
    """Reads the images of a split in the order of its JSON file, or of their paths."""

    splits = ("train", "train_mini", "val", "public_test")

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read all images of the split; their labels are the names of the categories' folders."""
        split, root = self._split_and_root(spec)
        if (root / f"{split}.json").is_file():
            yield from _read_metadata(root / f"{split}.json").rows()
            return
        number = 1
        for folder, images in walk_images(root / split):
            if images:
                _ranks_of_folder(root / split / folder, folder)  # refuses another layout
                numbers = range(number, number + len(images))
                number += len(images)
                yield Rows(
                    ids=[f"{split}/{folder}/{name}" for name in images],
                    labels=[folder] * len(images),
                    numbers=numbers,
                )

    def _split_and_root(self, spec: DatasetSpec) -> tuple[str, Path]:
        split, root = chosen_split(spec, self.splits), self.image_root(spec)
        if not (root / f"{split}.json").is_file() and not (root / split).is_dir():
            raise ConfigError(f"{root}: neither {split}.json nor a folder {split} in it")
        return split, root

    def class_names(self, spec: DatasetSpec) -> Mapping[str, Sequence[str]]:
        """Return the folder of a category -> its scientific and its common name."""
        return {
            leaf.label: [leaf.path[-1][0], *([leaf.common_name] if leaf.common_name else [])]
            for leaf in self.leaf_paths(spec)
        }

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Return the seven ranks of every category."""
        split, root = self._split_and_root(spec)
        path = root / f"{split}.json"
        if path.is_file():
            return category_leaves(_read_metadata(path).categories, path)
        folders = sorted(folder.name for folder in (root / split).iterdir() if folder.is_dir())
        return [
            LeafPath(
                str(root / split / name),
                name,
                tuple(zip(names, (*RANKS, "species"), strict=True)),
            )
            for name in folders
            if not name.startswith(".")
            for names in [_ranks_of_folder(root / split / name, name)]
        ]


def _read_metadata(path: Path) -> _Metadata:
    """Read the metadata of a split once for its taxonomy, its names and its rows."""
    return _cached_metadata(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _cached_metadata(path: Path, _mtime_ns: int) -> _Metadata:
    return _Metadata(path)


class _Metadata:
    """The images of one JSON file, as columns: three million objects would take gigabytes.

    Attributes:
        categories: as the file has them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.categories: list[Any] = []
        self._files: list[pa.Array] = []
        image_ids, annotated, categories = array("q"), array("q"), array("q")
        files: list[str] = []
        try:
            for name, item in iterate_arrays(path, ("images", "annotations", "categories")):
                if name == "images":
                    files.append(item["file_name"])
                    image_ids.append(item["id"])
                    if len(files) == _ROWS_PER_CHUNK:
                        self._files.append(pa.array(files, pa.string()))
                        files = []
                elif name == "annotations":
                    annotated.append(item["image_id"])
                    categories.append(item["category_id"])
                else:
                    self.categories.append(item)
            self._files.append(pa.array(files, pa.string()))
            self._label_of = {
                category["id"]: category.get("image_dir_name") or category["name"]
                for category in self.categories
            }
            self._categories_N = _category_of_images(image_ids, annotated, categories)
        except (KeyError, TypeError, ValueError, OverflowError, pa.ArrowException) as error:
            raise ConfigError(
                f"{path}: not the metadata of iNaturalist 2021: {type(error).__name__} {error}"
            ) from error

    def rows(self) -> Iterator[Rows]:
        """Yield all images, chunk by chunk."""
        start = 0
        for files in self._files:
            numbers = range(start + 1, start + len(files) + 1)
            categories = self._categories_N[start : start + len(files)].tolist()
            start += len(files)
            try:
                labels = [None if c < 0 else self._label_of[c] for c in categories]
            except KeyError as error:
                raise ConfigError(f"{self._path}: there is no category {error}") from error
            yield Rows(ids=files.to_pylist(), labels=labels, numbers=numbers)


def _category_of_images(
    image_ids: array[int], annotated: array[int], categories: array[int]
) -> npt.NDArray[np.int64]:
    """Return the category of each image, int64[N]; -1 where it has no annotation.

    Args:
        annotated: the image of each annotation, M of them; each is annotated once.
    """
    ids_N = np.frombuffer(image_ids, np.int64) if image_ids else np.empty(0, np.int64)
    annotated_M, categories_M = np.array(annotated, np.int64), np.array(categories, np.int64)
    if not len(annotated_M):
        return np.full(len(ids_N), -1)
    order_M = np.argsort(annotated_M, kind="stable")
    found_N = np.minimum(np.searchsorted(annotated_M[order_M], ids_N), len(order_M) - 1)
    rows_N = order_M[found_N]
    return np.where(annotated_M[rows_N] == ids_N, categories_M[rows_N], -1)


def _ranks_of_folder(folder: Path, name: str) -> tuple[str, ...]:
    """Return kingdom to genus, and the species, which is the genus and the epithet."""
    parts = name.split("_")
    if len(parts) < _NUM_PARTS or not parts[0].isdigit():
        raise ConfigError(
            f"{folder}: expected a name such as 00003_Animalia_Annelida_Clitellata_Haplotaxida_"
            "Lumbricidae_Lumbricus_terrestris"
        )
    ranks = parts[1 : 1 + len(RANKS)]
    return (*ranks, " ".join([ranks[-1], *parts[1 + len(RANKS) :]]))
