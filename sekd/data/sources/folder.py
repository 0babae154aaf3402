"""Source: a folder with one folder of images per leaf."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Never
from urllib.parse import unquote

from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def find_images(folder: Path, taxonomy: Taxonomy) -> list[tuple[Path, Node | None]]:
    """Images with the leaf each belongs to, in the order of their paths as text.

    A leaf's folder is named by its label, or by its node id where leaves share a name, with "/"
    written "%2F". It may hold further folders, and may be a link; links to folders below it are not
    followed. Images without any folder have no leaf. Hidden files and other files are passed over.

    Raises:
        ConfigError: if a folder cannot be read, one with images is no leaf, or an image lies beside
            folders of images.
    """
    _, names, files = next(_walk(folder))
    loose = sorted(folder / name for name in files)
    labelled: list[tuple[Path, Node | None]] = []
    for name in sorted(names):
        images = [Path(parent, file) for parent, _, files in _walk(folder / name) for file in files]
        if images:
            leaf = _leaf(folder / name, taxonomy)
            labelled += [(image, leaf) for image in images]
    if labelled and loose:
        raise ConfigError(f"{loose[0]}: lies beside the folders of the leaves, not in one of them")
    found = labelled or [(image, None) for image in loose]
    return sorted(found, key=lambda item: item[0].as_posix())


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` over visible folders and images, that does not pass over what it cannot read."""

    def refuse(error: OSError) -> Never:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = [name for name in files if not name.startswith(".")]
        yield parent, folders, [name for name in visible if Path(name).suffix.lower() in SUFFIXES]


def _leaf(folder: Path, taxonomy: Taxonomy) -> Node:
    try:
        return taxonomy.leaf(folder.name)
    except LookupError:
        pass  # the name may be quoted
    try:
        return taxonomy.leaf(unquote(folder.name))
    except LookupError as error:
        raise ConfigError(f"{folder}: {error} (in a folder's name, write / as %2F)") from error
