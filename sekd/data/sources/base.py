"""The base class of every source of samples: it yields rows in the order of the dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from sekd.config import DatasetSpec
from sekd.data.image_refs import ImageRef
from sekd.data.taxonomies.base import LeafPath
from sekd.errors import ConfigError
from sekd.io.text import read_lines


@dataclass(frozen=True, slots=True)
class RowLevels:
    """The levels that a benchmark's row names, by the numbers in its columns.

    Attributes:
        names: the right name of each level.
        options: the names shown at each level.
    """

    names: Mapping[int, str]
    options: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some consecutive rows of a source, as columns of one length.

    Attributes:
        ids: of the samples.
        images: texts that :meth:`sekd.data.image_refs.ImageRef.parse` reads, such as paths relative
            to the source's root; ``None`` where each sample's id is the path of its image.
        labels: the class of each image as its files write it; ``None`` for a row without a label.
            :mod:`sekd.data.class_matching` finds the leaf of each class.
        levels: of rows that bring their own options; ``None`` if no row does.
        numbers: what :meth:`Source.place` takes to name a row.
    """

    ids: Sequence[str]
    images: Sequence[str] | None = None
    labels: Sequence[str | None]
    levels: Sequence[RowLevels | None] | None = None
    numbers: Sequence[int]


class Source(ABC):
    """A layout of files, and how the samples in it are found.

    A new layout is a subclass in a file of its own beside this one, and a line of ``SOURCES``.
    """

    setting: ClassVar[Literal["images", "table"]] = "images"
    """The setting of a dataset that says where the files of this layout are."""
    labels_are_paths: ClassVar[bool] = False
    """Whether a label is the path of a folder, of whose parts one may be the class."""
    splits: ClassVar[tuple[str, ...]] = ()
    """The splits of this layout, of which the setting ``split`` chooses one; empty if the layout
    has none, or its files name them."""

    @abstractmethod
    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read all rows, some thousand at a time. Images are not opened.

        Raises:
            ConfigError: naming the file and the place of what is wrong.
        """

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder where relative image paths start."""
        assert spec.images is not None  # the registry gives a source only what it reads
        return spec.images

    def place(self, spec: DatasetSpec, number: int) -> str:
        """Name a row in a message, by its number in :attr:`Rows.numbers`."""
        return f"{self.image_root(spec)}, image {number}"

    def class_names(self, spec: DatasetSpec) -> Mapping[str, Sequence[str]]:
        """Return label -> other names of the class, where the files of the layout give any.

        They are tried in their order where the label itself matches no leaf.
        """
        return {}

    def leaf_paths(self, spec: DatasetSpec) -> list[LeafPath]:
        """Return the taxonomy that the files of the layout hold, its labels being their classes.

        Raises:
            ConfigError: if the layout has none, or it is malformed.
        """
        raise ConfigError(
            f"{self.image_root(spec)}: its layout has no taxonomy of its own; give `taxonomy`"
        )


def chosen_split(spec: DatasetSpec, splits: Sequence[str]) -> str:
    """Return the split that a dataset names.

    Raises:
        ConfigError: if it names none, or one that is not among ``splits``.
    """
    if spec.split is None or spec.split not in splits:
        problem = "name one" if spec.split is None else f"there is no {spec.split!r}"
        raise ConfigError(f"{spec.images}: split: {problem}; known: {', '.join(splits)}")
    return spec.split


def read_pairs(path: Path) -> dict[str, str]:
    """Read lines of an id and a text, with a space between, into id -> text.

    Raises:
        ConfigError: naming the line that holds no such pair.
    """
    pairs = {}
    for number, line in read_lines(path):
        key, space, text = line.strip().partition(" ")
        if not space:
            raise ConfigError(f"{path}, line {number}: expected an id and a text, got {line!r:.80}")
        pairs[key] = text
    return pairs


def set_aside(image: str, reason: str) -> str:
    """Return the image of a row that cannot be used, which sets its sample aside when it is read.

    Args:
        image: what the row says of its image; what is no Unicode text in it is escaped.
    """
    return str(ImageRef.unusable(escape(reason), escape(image)))


def escape(text: str) -> str:
    """Write what UTF-8 or a path cannot hold (lone surrogates, NUL) as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def is_clean(text: str) -> bool:
    """Tell whether :func:`escape` leaves a text as it is."""
    return (text.isascii() and "\0" not in text) or escape(text) == text
