"""The layout ``folder``: images in folders that are named by their leaf, at any depth.

A folder is named by its leaf's label, or by its node id where leaves share a name, with "/" written
"%2F". Of the folders above an image, the first that is a leaf counts, or a leaf below that one in
the taxonomy: ``Fruit/Apple/Golden-Delicious`` may be given a taxonomy of products as well as be one
itself (``taxonomy: folders``). Images without any folder have no leaf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.data.image_folders import say_skipped, walk_images
from sekd.data.sources.base import Rows, Source, escape, is_clean, set_aside
from sekd.data.taxonomies.base import LeafPath, TaxonomyOptions
from sekd.data.taxonomies.folders import read_folder_taxonomy, split_folders
from sekd.errors import ConfigError


class FolderSource(Source):
    """Finds images below ``images``, in the order of their relative paths as text."""

    labels_are_paths = True

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Find all images, each with the path of the folder that it lies in as its label.

        Raises:
            ConfigError: if a folder cannot be read, or an image lies beside folders of images.
        """
        root = self.image_root(spec)
        skipped: Counter[str] = Counter()
        label_of: dict[str, str | None] = {}
        for folder, images in walk_images(root, skipped):
            for name in images:
                label_of[f"{folder}/{name}" if folder else name] = folder or None
        loose = min((path for path, label in label_of.items() if label is None), default=None)
        if loose is not None and any(label_of.values()):
            raise ConfigError(
                f"{root / loose}: lies beside the folders of the leaves, not in one of them"
            )
        say_skipped(root, skipped)
        paths = sorted(label_of)
        yield Rows(
            ids=[escape(path) for path in paths],
            images=[
                path if is_clean(path) else set_aside(path, "its name is not in UTF-8; rename it")
                for path in paths
            ],
            labels=[label_of[path] if is_clean(path) else None for path in paths],
            numbers=range(1, len(paths) + 1),
        )

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder itself, or that of the split in it."""
        assert spec.images is not None  # the registry gives this source only then
        if spec.split is None:
            return spec.images
        if not (spec.images / spec.split).is_dir():
            raise ConfigError(f"{spec.images}: there is no folder {spec.split!r}, the split, in it")
        return spec.images / spec.split

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Make the tree of the folders a taxonomy; with a split, that of all splits together."""
        assert spec.images is not None
        roots = [self.image_root(spec)]
        if spec.split is not None:
            roots = split_folders(spec.images) or roots
        return read_folder_taxonomy(roots, TaxonomyOptions(level_names=spec.level_names))
