"""The layout ``food101``: Food-101 as it is unpacked.

``meta/train.json`` and ``meta/test.json`` hold class -> paths below ``images/`` without their
suffix; ``meta/train.txt`` and ``meta/test.txt`` list the same paths. ``meta/classes.txt`` and
``meta/labels.txt`` give the names of the classes, line by line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.data.sources.base import Rows, Source, chosen_split
from sekd.errors import ConfigError
from sekd.io.text import read_json, read_lines


class Food101Source(Source):
    """Reads the images of a split in the order of its list."""

    splits = ("train", "test")

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read all images of the split; their classes are the folders that they lie in."""
        assert spec.images is not None
        meta, split = spec.images / "meta", chosen_split(spec, self.splits)
        if (meta / f"{split}.json").is_file():
            paths = _read_listed_json(meta / f"{split}.json")
        else:
            paths = [line.strip() for _, line in read_lines(meta / f"{split}.txt")]
        for path in paths:
            if "/" not in path:
                raise ConfigError(f"{meta}: {split}: expected class/image, got {path!r}")
        yield Rows(
            ids=[f"{path}.jpg" for path in paths],
            labels=[path.partition("/")[0] for path in paths],
            numbers=range(1, len(paths) + 1),
        )

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder ``images``."""
        assert spec.images is not None
        return spec.images / "images"

    def class_names(self, spec: DatasetSpec) -> Mapping[str, Sequence[str]]:
        """Return class -> its line of ``labels.txt``, where both files are there."""
        assert spec.images is not None
        classes, labels = (spec.images / "meta" / f"{name}.txt" for name in ("classes", "labels"))
        if not (classes.is_file() and labels.is_file()):
            return {}
        pairs = zip(read_lines(classes), read_lines(labels), strict=False)
        return {name.strip(): [label.strip()] for (_, name), (_, label) in pairs}


def _read_listed_json(path: Path) -> list[str]:
    content = read_json(path)
    is_right = isinstance(content, dict) and all(
        isinstance(paths, list) and all(isinstance(name, str) for name in paths)
        for paths in content.values()
    )
    if not is_right:
        raise ConfigError(f"{path}: expected an object of class -> list of paths")
    return [name for paths in content.values() for name in paths]
