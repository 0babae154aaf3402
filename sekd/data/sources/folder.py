"""Source: a folder with one folder of images per leaf."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Never
from urllib.parse import unquote

from sekd.data.sources.rows import Rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def find_images(folder: Path, taxonomy: Taxonomy) -> Rows:
    """Images with the leaf each belongs to, in the order of their relative paths as text.

    A leaf's folder is named by its label, or by its node id where leaves share a name, with "/"
    written "%2F". It may hold further folders, and may be a link; links to folders below it are not
    followed. Images without any folder have no leaf. Hidden files and other files are passed over.

    Raises:
        ConfigError: if a folder cannot be read, one with images is no leaf, or an image lies beside
            folders of images.
    """
    names, loose = next(_walk(folder))
    leaf_of: dict[str, Node] = {}
    labelled: list[str] = []
    for name in names:
        images = [f"{name}/{image}" for _, images in _walk(folder / name) for image in images]
        if images:
            leaf_of[name] = _leaf(folder / name, taxonomy)
            labelled += images
    if labelled and loose:
        first = folder / min(loose)
        raise ConfigError(f"{first}: lies beside the folders of the leaves, not in one of them")
    found = sorted(labelled or loose)
    leaves = [leaf_of[path.split("/", 1)[0]] if labelled else None for path in found]
    return Rows(found, found, leaves, None, range(1, len(found) + 1))


def _walk(root: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Of every folder below ``root``: its visible folders by name, its images by relative path.

    Unlike in ``os.walk`` a folder that cannot be read is not passed over.
    """

    def refuse(error: OSError) -> Never:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(root).as_posix()
        start = "" if below == "." else f"{below}/"
        yield folders, [f"{start}{name}" for name in files if _is_image(name)]


def _is_image(name: str) -> bool:
    _, dot, suffix = name.rpartition(".")
    return not name.startswith(".") and f"{dot}{suffix.lower()}" in SUFFIXES


def _leaf(folder: Path, taxonomy: Taxonomy) -> Node:
    try:
        return taxonomy.leaf(folder.name)
    except LookupError:
        pass  # the name may be quoted
    try:
        return taxonomy.leaf(unquote(folder.name))
    except LookupError as error:
        raise ConfigError(f"{folder}: {error} (in a folder's name, write / as %2F)") from error
