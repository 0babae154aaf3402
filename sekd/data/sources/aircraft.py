"""The layout ``aircraft``: FGVC-Aircraft as it is unpacked, with its manufacturers and families.

``data/images_variant_train.txt`` and its like hold an image's number and its variant, those of
``family`` and ``manufacturer`` the levels above, and ``data/images/`` the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.data.sources.base import Rows, Source, chosen_split, read_pairs
from sekd.data.taxonomies.base import LeafPath
from sekd.errors import ConfigError

RANKS = ("manufacturer", "family", "variant")


class AircraftSource(Source):
    """Reads the images of a split in the order of its list of variants."""

    splits = ("train", "val", "trainval", "test")

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read all images of the split, with their variants as labels."""
        split = chosen_split(spec, self.splits)
        pairs = read_pairs(_list_of(_data_folder(spec), "variant", split))
        yield Rows(
            ids=[f"{image}.jpg" for image in pairs],
            labels=list(pairs.values()),
            numbers=range(1, len(pairs) + 1),
        )

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder ``data/images``."""
        return _data_folder(spec) / "images"

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Return manufacturer > family > variant, from the lists of all splits."""
        folder = _data_folder(spec)
        leaves: dict[str, LeafPath] = {}
        for split in self.splits:
            if not _list_of(folder, "variant", split).is_file():
                continue
            of_rank = {rank: read_pairs(_list_of(folder, rank, split)) for rank in RANKS}
            for image, variant in of_rank["variant"].items():
                if variant in leaves:
                    continue
                missing = [rank for rank in RANKS if image not in of_rank[rank]]
                if missing:
                    raise ConfigError(f"{folder}: image {image} of {split} has no {missing[0]}")
                path = tuple((of_rank[rank][image], rank) for rank in RANKS)
                leaves[variant] = LeafPath(f"{folder}, image {image}", variant, path)
        return list(leaves.values())


def _data_folder(spec: DatasetSpec) -> Path:
    assert spec.images is not None
    return spec.images / "data" if (spec.images / "data").is_dir() else spec.images


def _list_of(folder: Path, rank: str, split: str) -> Path:
    return folder / f"images_{rank}_{split}.txt"
