"""Source: a folder with one folder of images per leaf."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from sekd.data.samples import Sample
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def folder_samples(folder: Path, taxonomy: Taxonomy) -> Iterator[Sample]:
    """Samples in the order of their paths; the id is the path below ``folder``.

    A leaf's folder is named by its label; "/" in a label is written "%2F". Images without any
    folder are samples without a label. Other files and hidden ones are passed over.

    Raises:
        ConfigError: if the folder is missing, a folder is no leaf, or an image lies beside folders.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of images")
    paths = sorted(
        (path.relative_to(folder), path)
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    visible = [
        (name, path) for name, path in paths if not any(part.startswith(".") for part in name.parts)
    ]
    has_folders = any(len(name.parts) > 1 for name, _ in visible)
    leaves: dict[str, Node] = {}
    for name, path in visible:
        if len(name.parts) == 1 and has_folders:
            raise ConfigError(f"{path}: lies beside the folders of the leaves, not in one of them")
        label = name.parts[0] if has_folders else None
        if label is not None and label not in leaves:
            leaves[label] = _leaf(folder / label, taxonomy)
        yield Sample(name.as_posix(), path, leaves[label] if label is not None else None)


def _leaf(folder: Path, taxonomy: Taxonomy) -> Node:
    try:
        return taxonomy.leaf(unquote(folder.name))
    except LookupError as error:
        raise ConfigError(f"{folder}: {error}") from error
