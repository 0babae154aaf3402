"""The layout ``cub200``: CUB-200-2011 as it is unpacked.

``images.txt`` (id, path below ``images/``), ``image_class_labels.txt`` (id, class id),
``classes.txt`` (class id, name such as ``001.Black_footed_Albatross``) and ``train_test_split.txt``
(id, 1 for training) are joined by their ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.data.sources.base import Rows, Source, chosen_split, read_pairs
from sekd.errors import ConfigError


class CubSource(Source):
    """Reads the images of a split in the order of ``images.txt``."""

    splits = ("train", "test")

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read all images of the split, or all images if none is named."""
        assert spec.images is not None
        root = spec.images
        split = chosen_split(spec, self.splits) if spec.split is not None else None
        class_of = read_pairs(root / "image_class_labels.txt")
        name_of = read_pairs(root / "classes.txt")
        is_training = read_pairs(root / "train_test_split.txt")
        ids, labels, numbers = [], [], []
        for number, (image, path) in enumerate(read_pairs(root / "images.txt").items(), start=1):
            place = f"{root / 'images.txt'}, line {number}: image {image}"
            if split and _joined(is_training, image, place) != str(int(split == "train")):
                continue
            ids.append(path)
            labels.append(_joined(name_of, _joined(class_of, image, place), place))
            numbers.append(number)
        yield Rows(ids=ids, labels=labels, numbers=numbers)

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder ``images``."""
        assert spec.images is not None
        return spec.images / "images"

    def place(self, spec: DatasetSpec, number: int) -> str:
        """Name a line of ``images.txt``."""
        return f"{spec.images}/images.txt, line {number}"


def _joined(texts: dict[str, str], key: str, place: str) -> str:
    if key not in texts:
        raise ConfigError(f"{place}: {key} is missing in another file of the dataset")
    return texts[key]
