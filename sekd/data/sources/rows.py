"""What every source of images gives: rows, as columns, some ten thousand at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sekd.data.taxonomy import Node

Choices = tuple[tuple[str, ...], ...]
"""Option names per level below the root."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Images of a source; all columns are of one length.

    Attributes:
        ids: the images' paths as the source names them, or the cells of an id column.
        images: paths, relative to the source's root or absolute.
        leaves: the right ones, ``None`` without a label.
        choices: where rows bring options of their own; ``None`` if none does.
        numbers: lines or rows of the source, for messages.
    """

    ids: Sequence[str]
    images: Sequence[str]
    leaves: Sequence[Node | None]
    choices: Sequence[Choices | None] | None
    numbers: Sequence[int]
