"""Walk over folders of images."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Never

from sekd.data.images import IMAGE_SUFFIXES
from sekd.errors import ConfigError

logger = logging.getLogger(__name__)

_FURNITURE = ("thumbs.db", "desktop.ini", ".ds_store")
"""Names of files that file managers leave in folders, in lower case."""


def walk_images(
    root: Path, skipped: Counter[str] | None = None, *, follow_links: bool = True
) -> Iterator[tuple[str, list[str]]]:
    """Yield every visible folder from ``root`` down, as a relative path, with the images in it.

    Hidden files, such as ``._a.jpg`` of macOS, and hidden folders are left out. A link to a folder
    is followed directly below ``root`` only, so that no link leads around in a circle.

    Args:
        skipped: counts the suffixes of files that are no images.
        follow_links: follow the links directly below ``root``.

    Raises:
        ConfigError: if a folder cannot be read.
    """

    def refuse(error: OSError) -> Never:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(parent, root)
        images = []
        for name in files:
            if is_image(name):
                images.append(name)
            elif skipped is not None and name[0] != "." and name.lower() not in _FURNITURE:
                skipped[os.path.splitext(name)[1].lower() or "no suffix"] += 1  # noqa: PTH122
        yield "" if below == "." else below.replace(os.sep, "/"), sorted(images)
        if below == "." and follow_links:
            for name in folders:
                if os.path.islink(f"{parent}/{name}"):  # noqa: PTH114
                    for inner, inner_images in walk_images(
                        Path(parent, name), skipped, follow_links=False
                    ):
                        yield f"{name}/{inner}" if inner else name, inner_images


def folders_with_images(root: Path) -> list[str]:
    """List the folders that hold an image, as sorted relative paths; "" is ``root`` itself."""
    return sorted(folder for folder, images in walk_images(root) if images)


def is_image(name: str) -> bool:
    """Tell whether the name of a file is that of a visible image."""
    _, dot, suffix = name.rpartition(".")
    return not name.startswith(".") and f"{dot}{suffix.lower()}" in IMAGE_SUFFIXES


def say_skipped(folder: Path, skipped: Counter[str]) -> None:
    """Log how many files of a folder are no images, by their suffixes."""
    if skipped:
        by_count = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{count} with {suffix}" for suffix, count in by_count)
        logger.warning(
            "%s: skipped %d files that are no images: %s", folder, skipped.total(), kinds
        )
