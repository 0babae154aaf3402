"""Config section ``data``: one entry for each dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from sekd.config.base import STANDARD_WORDING, Fraction, LeafNames, Positive, Section

PIXEL_LIMIT = 89_478_485
"""Default of ``pixel_limit``: what pillow warns of, a quarter of a gigabyte in 8-bit RGB."""

FOLDERS = Path("folders")
"""The value of ``taxonomy`` that makes the tree of the folders of images the taxonomy."""


def _is_none(value: object) -> bool:
    return value is None


def _is_scientific(value: object) -> bool:
    return value == "scientific"


def _is_error(value: object) -> bool:
    return value == "error"


class SimilarSpec(Section):
    """How ``distractors: similar`` finds the most similar wrong options. Not given by the paper."""

    model: str
    """An image-text model such as CLIP or SigLIP, or a text encoder: a directory, or a Hugging Face
    id of a model that was downloaded already."""
    by: Literal["name", "image"] = "name"
    """Whether wrong options are similar to the right ``name``, or to the ``image``, as in the
    published benchmark. For images, the model must be an image-text model."""


class DatasetSpec(Section):
    """Images, their taxonomy, and how questions about them are made."""

    taxonomy: Path | None = Field(default=None, exclude_if=_is_none)
    """A file or a folder of one of the formats of ``sekd.data.taxonomies``: JSON, CSV, Newick and
    others. ``folders``: the tree of the folders of images is the taxonomy. Without it, the taxonomy
    is the one that the files of the layout hold."""
    level_names: tuple[str, ...] = ()
    """The rank of each position of a path, e.g. ``[kingdom, phylum]``, where the taxonomy names
    none; of a table, the names of its columns of ranks, root first."""
    leaf_names: LeafNames = Field(default="scientific", exclude_if=_is_scientific)
    """Which name of a leaf is shown and asked for, where the taxonomy gives two: ``scientific``,
    ``common``, or ``both`` as in "raven (Corvus corax)"."""
    aliases: Path | None = Field(default=None, exclude_if=_is_none)
    """CSV with the columns ``class`` and ``leaf``, for classes whose names match no leaf;
    ``sekd data match`` writes it. The leaf ``-`` leaves the images of a class out."""
    unmatched: Literal["error", "skip", "no_label"] = Field(default="error", exclude_if=_is_error)
    """How images are treated whose class matches no leaf: ``error`` stops and lists all these
    classes, ``skip`` leaves the images out and counts them, and ``no_label`` takes them as images
    without a label, for ``options: children``."""
    images: Path | None = None
    """A folder of images, or of the files that ``layout`` describes. Give this or ``table``."""
    table: Path | None = None
    """A file with one row per image: CSV with any delimiter, TSV, JSONL, Parquet or XLSX. Give this
    or ``images``."""
    classes: Path | None = Field(default=None, exclude_if=_is_none)
    """Table of the names of numbered classes, of the layout ``list``."""
    layout: str | None = Field(default=None, exclude_if=_is_none)
    """Name of the layout of the files, one of ``sekd.data.sources``; the default is ``folder`` for
    ``images`` and ``table`` for ``table``."""
    image_column: str = "image"
    """Column of the image's path in a table."""
    leaf_column: str = "label"
    """Column of the leaf's label; a table without it, or an empty cell, means no label."""
    id_column: str | None = None
    """Column of the sample's id; its image path if not given."""
    image_root: Path | None = None
    """Folder where relative image paths of a table start; the table's own folder if not given.
    A relative path may not leave it."""
    image_prefix: str = ""
    """Prefix that is removed from a table's image paths first (paths of another machine)."""
    downloads: Path | None = Field(default=None, exclude_if=_is_none)
    """Folder for the images of a table that are named by http(s) addresses. Without it no network
    is used, and such images are set aside."""
    split: str | None = None
    """Take only the rows of a table whose ``split`` column has this value, the folder of this name,
    or the split of a layout that has some."""
    pixel_limit: Positive = Field(default=PIXEL_LIMIT, exclude_if=lambda n: n == PIXEL_LIMIT)
    """Number of pixels above which an image is set aside: a small file may unpack to gigabytes.
    Raise it for images that are meant to be so large."""
    labels: Path | None = Field(default=None, exclude_if=_is_none)
    """A table of labels in place of those that the files give: what ``sekd label`` wrote, or any
    table with the columns ``sample_id`` and ``label``. Images without a row are left out."""
    min_confidence: Fraction = Field(default=0.0, exclude_if=lambda floor: floor == 0.0)
    """Probability that a model's label must have, with its whole path, 0 to 1. Images with less are
    left out and counted. It applies to ``labels`` and to ``options: children``."""
    options: Literal["drawn", "children"] = Field(
        default="drawn", exclude_if=lambda options: options == "drawn"
    )
    """Where the options of a question come from: ``drawn`` takes the right node and wrong ones as
    ``distractors`` says; ``children`` needs no label. The model then descends among the children of
    its own answers (section ``descent``). For an elicitation that gives the labels around which the
    questions are drawn; an evaluation scores the descent itself."""
    distractors: Literal["random", "siblings", "similar", "given"] = "random"
    """Wrong options: any of the level (``random``), children of the same parent first
    (``siblings``), or the most similar ones of the level (``similar``). A benchmark row that brings
    its own options is asked with those; ``given`` sets rows without options aside."""
    similar: SimilarSpec | None = Field(default=None, exclude_if=lambda spec: spec is None)
    """The model that ranks the wrong options of ``distractors: similar``."""
    num_options: Annotated[int, Field(ge=2, le=26)] = 4
    """The number of options of a question. A level with fewer nodes shows them all."""
    seed: int = 0
    """Seed of the options and their order, which also depend on the sample and the level."""
    subject: str = "organism"
    """What the image shows, in the words of a question: organism, dish, product ..."""
    wording: str = Field(default=STANDARD_WORDING, exclude_if=lambda name: name == STANDARD_WORDING)
    """How questions and replies are worded: ``standard``, ``paper`` (the literal words of the
    paper's figures, with replies by name, for evaluations), or a ``.yaml`` file of your own."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.images is None) == (self.table is None):
            raise ValueError("give either images (a folder) or table")
        if self.taxonomy is None and self.layout in (None, "folder", "table"):
            if self.images is not None:
                raise ValueError("give taxonomy: a file, or folders for the tree of the folders")
            if not self.level_names:
                raise ValueError("give taxonomy: a file, or the table's columns as level_names")
        return self

    @field_validator("distractors", mode="before")
    @classmethod
    def _walk_has_another_name(cls, value: object) -> object:
        if value == "walk":
            raise ValueError("walk is now a setting of its own: options: children")
        return value

    @model_validator(mode="after")
    def _similar_has_model(self) -> Self:
        if self.distractors == "similar" and self.similar is None:
            raise ValueError("distractors: similar needs a model: similar: {model: PATH}")
        return self
