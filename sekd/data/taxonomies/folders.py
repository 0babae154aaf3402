"""Taxonomies from folders: the tree of folders with images in them is the taxonomy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sekd.data.image_folders import folders_with_images
from sekd.data.taxonomies.base import LeafPath, TaxonomyOptions, with_ranks
from sekd.errors import ConfigError

_SPLITS = ("train", "training", "val", "valid", "validation", "eval", "test", "testing")


def split_folders(root: Path) -> list[Path]:
    """Return the folders of the splits in a folder; none where it holds any other folder."""
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    is_split = all(path.name.casefold() in _SPLITS for path in folders)
    return sorted(folders) if is_split else []


def read_folder_taxonomy(roots: Sequence[Path], options: TaxonomyOptions) -> list[LeafPath]:
    """Make a leaf of every folder that holds an image, in the order of their paths.

    The label of a leaf is the path of its folder, and its name that of the folder.

    Args:
        roots: folders of one tree each, such as those of the splits. The tree holds the folders of
            all of them.

    Raises:
        ConfigError: if a folder cannot be read, or no folder holds an image.
    """
    place_of: dict[str, Path] = {}
    for root in roots:
        for folder in folders_with_images(root):
            place_of.setdefault(folder, root / folder)
    place_of.pop("", None)  # images without a folder have no leaf
    if not place_of:
        raise ConfigError(f"{roots[0]}: no folder of images in it, so that there is no taxonomy")
    return [
        LeafPath(str(place), folder, with_ranks(names, options.level_names, str(place)))
        for folder, place in sorted(place_of.items())
        for names in [folder.split("/")]
        if options.only is None or names[-1] in options.only
    ]
