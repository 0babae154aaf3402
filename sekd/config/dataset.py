"""Config section ``data``: one entry for each dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sekd.config.base import Positive, Section

PIXEL_LIMIT = 89_478_485
"""Default of ``pixel_limit``: what pillow warns of, a quarter of a gigabyte in 8-bit RGB."""


class DatasetSpec(Section):
    """Images, their taxonomy, and how questions about them are made."""

    taxonomy: Path
    """``.json`` of leaf -> root-first path, or ``.csv`` with one column per rank."""
    level_names: tuple[str, ...] = ()
    """The rank of each position of a JSON path, e.g. ``[kingdom, phylum]``."""
    images: Path | None = None
    """A folder with one folder of images per leaf. Give this or ``table``."""
    table: Path | None = None
    """``.csv``, ``.jsonl`` or ``.parquet`` with one row per image. Give this or ``images``."""
    layout: str | None = Field(default=None, exclude_if=lambda layout: layout is None)
    """Name of the layout of the files below ``images``, one of ``sekd.data.sources``; the default
    is ``folder`` for ``images`` and ``table`` for ``table``."""
    image_column: str = "image"
    """Column of the image's path in a table."""
    leaf_column: str = "label"
    """Column of the leaf's label; a table without it, or an empty cell, means no label."""
    id_column: str | None = None
    """Column of the sample's id; its image path if not given."""
    image_root: Path | None = None
    """Folder where relative image paths of a table start; the table's own folder if not given."""
    image_prefix: str = ""
    """Prefix that is removed from a table's image paths first (paths of another machine)."""
    split: str | None = None
    """Take only the rows of a table whose ``split`` column has this value."""
    pixel_limit: Positive = Field(default=PIXEL_LIMIT, exclude_if=lambda n: n == PIXEL_LIMIT)
    """Number of pixels above which an image is set aside: a small file may unpack to gigabytes.
    Raise it for images that are meant to be so large."""
    distractors: Literal["random", "siblings", "walk"] = "random"
    """Wrong options: any of the level, children of the same parent first, or (no label needed) all
    children of the node that was answered one level up. A benchmark row that brings its own options
    is asked with those."""
    num_options: Annotated[int, Field(ge=2, le=26)] = 4
    """The number of options of a question. A level with fewer nodes shows them all."""
    seed: int = 0
    """Seed of the options and their order, which also depend on the sample and the level."""
    subject: str = "organism"
    """What the image shows, in the words of a question: organism, dish, product ..."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.images is None) == (self.table is None):
            raise ValueError("give either images (a folder per leaf) or table")
        return self
