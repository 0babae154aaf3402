"""The protocol of every source of samples: it yields rows in the order of the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sekd.config import DatasetSpec
from sekd.data.taxonomy import Node, Taxonomy

Choices = tuple[tuple[str, ...], ...]
"""Option names per level below the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some consecutive rows of a source, as columns of one length.

    Attributes:
        ids: of the samples.
        images: texts that :meth:`sekd.data.image_refs.ImageRef.parse` reads, such as paths relative
            to the source's root; ``None`` where each sample's id is the path of its image.
        leaves: the right leaves, ``None`` for a row without a label.
        choices: the options of rows that bring their own; ``None`` if no row does.
        numbers: what :meth:`Source.place` takes to name a row.
    """

    ids: Sequence[str]
    images: Sequence[str] | None = None
    leaves: Sequence[Node | None]
    choices: Sequence[Choices | None] | None = None
    numbers: Sequence[int]


class Source(Protocol):
    """A layout of files, and how the samples in it are found.

    A new layout is a class in a file of its own beside this one, and a line of ``SOURCES``.
    """

    @property
    def setting(self) -> Literal["images", "table"]:
        """The setting of a dataset that says where the files of this layout are."""
        ...

    def read_rows(self, spec: DatasetSpec, taxonomy: Taxonomy) -> Iterator[Rows]:
        """Read all rows, some thousand at a time. Images are not opened.

        Raises:
            ConfigError: naming the file and the place of what is wrong.
        """
        ...

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder where relative image paths start."""
        ...

    def place(self, spec: DatasetSpec, number: int) -> str:
        """Name a row in a message, by its number in :attr:`Rows.numbers`."""
        ...
