"""The layout ``cifar100``: the binary version of CIFAR-100, with its coarse and fine labels.

``train.bin`` and ``test.bin`` are read where they are. The version for Python is a pickle, which
is not read, because loading a pickle may run any program.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sekd.config import DatasetSpec
from sekd.data.image_refs import CIFAR_LABEL_BYTES, CIFAR_PIXEL_BYTES
from sekd.data.sources.base import Rows, Source, chosen_split
from sekd.data.taxonomies.base import LeafPath
from sekd.errors import ConfigError
from sekd.io.text import read_lines

# Shapes: N images.


class CifarSource(Source):
    """Reads the records of a split in the order of its file."""

    splits = ("train", "test")

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read the labels of all records of the split."""
        split, folder = chosen_split(spec, self.splits), self.image_root(spec)
        names = _read_names(folder, "fine")
        labels_N2 = _read_labels(folder / f"{split}.bin")
        numbers = range(len(labels_N2))
        yield Rows(
            ids=[f"{split}/{number:05d}" for number in numbers],
            images=[f"cifar://{number}::{split}.bin" for number in numbers],
            labels=[_name(names, fine, folder) for fine in labels_N2[:, 1].tolist()],
            numbers=numbers,
        )

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Return coarse > fine, as the records of all splits have it."""
        folder = self.image_root(spec)
        fine_names, coarse_names = _read_names(folder, "fine"), _read_names(folder, "coarse")
        coarse_of: dict[int, int] = {}
        for split in self.splits:
            if (folder / f"{split}.bin").is_file():
                coarse_of |= {f: c for c, f in _read_labels(folder / f"{split}.bin").tolist()}
        return [
            LeafPath(
                f"{folder}, class {fine}",
                _name(fine_names, fine, folder),
                (
                    (_name(coarse_names, coarse, folder), "superclass"),
                    (_name(fine_names, fine, folder), "class"),
                ),
            )
            for fine, coarse in sorted(coarse_of.items())
        ]


def _read_names(folder: Path, kind: str) -> list[str]:
    return [line.strip() for _, line in read_lines(folder / f"{kind}_label_names.txt")]


def _name(names: list[str], number: int, folder: Path) -> str:
    if number >= len(names):
        raise ConfigError(f"{folder}: a record has the label {number}, but {len(names)} have names")
    return names[number]


def _read_labels(path: Path) -> npt.NDArray[np.uint8]:
    """Return the coarse and the fine label of each record, uint8[N, 2]."""
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; unpack cifar-100-binary.tar.gz (the version for Python is a "
            "pickle, which is not read)"
        )
    size = CIFAR_LABEL_BYTES + CIFAR_PIXEL_BYTES
    if path.stat().st_size % size:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes are not whole records of {size}")
    records = np.memmap(path, np.uint8, "r").reshape(-1, size) if path.stat().st_size else None
    return np.empty((0, 2), np.uint8) if records is None else np.array(records[:, :2])
