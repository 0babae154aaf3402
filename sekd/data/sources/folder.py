"""The layout ``folder``: one folder of images per leaf.

A leaf's folder is named by its label, or by its node id where leaves share a name, with "/" written
"%2F". It may hold further folders, and may be a link; links to folders below it are not followed.
Images without any folder have no leaf. Hidden files are skipped, and files of other kinds are
skipped and counted in a warning.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Never
from urllib.parse import unquote

from sekd.config import DatasetSpec
from sekd.data.images import IMAGE_SUFFIXES
from sekd.data.sources.base import Rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

logger = logging.getLogger(__name__)

_FILES_OF_SYSTEMS = frozenset({"thumbs.db", "desktop.ini"})


class FolderSource:
    """Finds images below ``images``, in the order of their relative paths as text."""

    setting: Literal["images"] = "images"

    def read_rows(self, spec: DatasetSpec, taxonomy: Taxonomy) -> Iterator[Rows]:
        """Find all images, each with the leaf whose folder it lies in.

        Raises:
            ConfigError: if a folder cannot be read, a folder with images is no leaf, or an image
                lies beside folders of images.
        """
        folder = self.image_root(spec)
        skipped: Counter[str] = Counter()
        names, loose = next(_walk_images(folder, skipped))
        leaf_of: dict[str, Node] = {}
        labelled: list[str] = []
        for name in names:
            images = [
                f"{name}/{path}"
                for _, paths in _walk_images(folder / name, skipped)
                for path in paths
            ]
            if images:
                leaf_of[name] = _leaf_of_folder(folder / name, taxonomy)
                labelled += images
        if labelled and loose:
            image = folder / min(loose)
            raise ConfigError(f"{image}: lies beside the folders of the leaves, not in one of them")
        _say_skipped(folder, skipped)
        paths = sorted(labelled or loose)
        leaves = [leaf_of[path.split("/", 1)[0]] if labelled else None for path in paths]
        yield Rows(ids=paths, leaves=leaves, numbers=range(1, len(paths) + 1))

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder itself."""
        assert spec.images is not None  # the registry gives this source only then
        return spec.images

    def place(self, spec: DatasetSpec, number: int) -> str:
        """Name an image by its position in the sorted paths."""
        return f"{spec.images}, image {number}"


def _walk_images(root: Path, skipped: Counter[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield, for every folder from ``root`` down, its visible folders and its images.

    Folders are given by name, images by their path relative to ``root``. Unlike ``os.walk``, this
    refuses a folder that cannot be read.

    Args:
        skipped: suffix -> number of files that are no images, to be added to.
    """

    def refuse(error: OSError) -> Never:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        images = []
        for name in files:
            suffix = Path(name).suffix.lower()
            if name.startswith(".") or name.lower() in _FILES_OF_SYSTEMS:
                continue
            if suffix in IMAGE_SUFFIXES:
                images.append(f"{prefix}{name}")
            else:
                skipped[suffix or "no suffix"] += 1
        yield folders, images


def _say_skipped(folder: Path, skipped: Counter[str]) -> None:
    if skipped:
        by_count = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{count} with {suffix}" for suffix, count in by_count)
        logger.warning(
            "%s: skipped %d files that are no images: %s", folder, skipped.total(), kinds
        )


def _leaf_of_folder(folder: Path, taxonomy: Taxonomy) -> Node:
    try:
        return taxonomy.leaf(folder.name)
    except LookupError:
        pass  # the name may be quoted
    try:
        return taxonomy.leaf(unquote(folder.name))
    except LookupError as error:
        raise ConfigError(f"{folder}: {error} (in a folder's name, write / as %2F)") from error
