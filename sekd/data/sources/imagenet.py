"""The layout ``imagenet``: ImageNet in folders by synset, or as flat files.

A class is a synset such as ``n01440764``. It is the folder of an image, or stands in its name
(``n01440764_10026.JPEG``, ``ILSVRC2012_val_00000001_n01751748.JPEG``), or in
``LOC_val_solution.csv`` for the flat validation images of Kaggle. The names of the synsets come
from ``LOC_synset_mapping.txt``, ``synset_words.txt``, ``words.txt`` or
``imagenet_class_index.json``, whichever lies beside the images or above them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.data.image_folders import walk_images
from sekd.data.sources.base import Rows, Source
from sekd.errors import ConfigError
from sekd.io.text import read_json, read_lines

_SYNSET = re.compile(r"(?<![a-z0-9])n\d{8}(?![0-9])")
_BASES = ("", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")
_NAME_FILES = ("LOC_synset_mapping.txt", "synset_words.txt", "words.txt")


class ImageNetSource(Source):
    """Finds the images of a split, or below ``images``, in the order of their paths."""

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Find all images, each with the synset in its path or in ``LOC_val_solution.csv``.

        Raises:
            ConfigError: if the synset of an image is nowhere.
        """
        root = self.image_root(spec)
        number, solution = 1, None
        for folder, images in walk_images(root):
            labels = []
            for name in images:
                found = _SYNSET.search(name) or _SYNSET.search(folder)
                if found is None:
                    solution = _read_solution(spec) if solution is None else solution
                    synset = solution.get(name.partition(".")[0])
                else:
                    synset = found.group()
                if synset is None:
                    raise ConfigError(
                        f"{root / folder / name}: no synset such as n01440764 in its path, nor in "
                        "a LOC_val_solution.csv"
                    )
                labels.append(synset)
            numbers = range(number, number + len(images))
            number += len(images)
            ids = [f"{folder}/{name}" if folder else name for name in images]
            yield Rows(ids=ids, labels=labels, numbers=numbers)

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder of the split, at the place where one of the downloads has it."""
        assert spec.images is not None
        if spec.split is None:
            return spec.images
        for base in _BASES:
            if (spec.images / base / spec.split).is_dir():
                return spec.images / base / spec.split
        raise ConfigError(f"{spec.images}: there is no folder {spec.split!r}, the split, in it")

    def class_names(self, spec: DatasetSpec) -> Mapping[str, Sequence[str]]:
        """Return synset -> its words, of the first file of names that is found."""
        for folder in _folders_above(spec):
            for name in _NAME_FILES:
                if (folder / name).is_file():
                    return _read_words(folder / name)
            if (folder / "imagenet_class_index.json").is_file():
                return _read_class_index(folder / "imagenet_class_index.json")
        return {}


def _folders_above(spec: DatasetSpec) -> list[Path]:
    """Return ``images`` and the folders above it, up to three of them."""
    assert spec.images is not None
    return [spec.images, *list(spec.images.absolute().parents)[:3]]


def _read_words(path: Path) -> dict[str, list[str]]:
    """Read lines of a synset and its words: ``n01440764 tench, Tinca tinca``."""
    words = {}
    for number, line in read_lines(path):
        synset, *rest = line.strip().split(maxsplit=1)
        if not _SYNSET.fullmatch(synset) or not rest:
            raise ConfigError(
                f"{path}, line {number}: expected a synset and its words: {line!r:.80}"
            )
        words[synset] = [word.strip() for word in rest[0].split(",")]
    return words


def _read_class_index(path: Path) -> dict[str, list[str]]:
    content = read_json(path)
    try:
        return {synset: [name.replace("_", " ")] for synset, name in content.values()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f'{path}: expected {{"0": ["n01440764", "tench"], ...}}') from error


def _read_solution(spec: DatasetSpec) -> dict[str, str]:
    """Read image -> synset, where ``LOC_val_solution.csv`` is found; else there are none."""
    for folder in _folders_above(spec):
        path = folder / "LOC_val_solution.csv"
        if path.is_file():
            synsets = {}
            for number, line in read_lines(path):
                image, comma, prediction = line.partition(",")
                if not comma:
                    raise ConfigError(f"{path}, line {number}: expected ImageId,PredictionString")
                synsets[image] = prediction.split(" ", 1)[0]
            return synsets
    return {}
