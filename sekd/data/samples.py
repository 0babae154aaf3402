"""Samples: an image, an id, and the leaf it belongs to where that is known.

What is wrong with a folder or a table as such is a ``ConfigError`` before anything runs. What is
wrong with one image (missing, truncated) is a ``SampleError`` when that sample's turn comes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from sekd.config import DatasetSpec
from sekd.data.hashing import hash_file
from sekd.data.questions import Question, given_questions, labelled_questions
from sekd.data.sources.folder import find_images
from sekd.data.sources.table import read_rows
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError, SampleError


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Attributes:
        id: unique in its dataset: the image's path as the source names it, or a column's value.
        image: where it should be; whether it is there shows when it is read.
        leaf: the right leaf, ``None`` without a label.
        choices: option names per level below the root, where a benchmark's row brings its own.
    """

    id: str
    image: Path
    leaf: Node | None
    choices: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset of the config: its taxonomy and its samples, in a fixed order."""

    name: str
    spec: DatasetSpec
    taxonomy: Taxonomy
    samples: tuple[Sample, ...]

    @classmethod
    def load(cls, name: str, spec: DatasetSpec) -> Dataset:
        """Read taxonomy and samples; images are not opened.

        Raises:
            ConfigError: naming the file and the place of what is wrong.
        """
        taxonomy = Taxonomy.load(spec.taxonomy, level_names=spec.level_names)
        return cls(name, spec, taxonomy, tuple(load_samples(spec, taxonomy)))

    def first(self, num_samples: int) -> Dataset:
        """The same dataset, cut to its first samples."""
        return replace(self, samples=self.samples[:num_samples])


def load_samples(spec: DatasetSpec, taxonomy: Taxonomy) -> list[Sample]:
    """Samples of a folder (in the order of their ids) or a table (in the order of its rows).

    Raises:
        ConfigError: naming the file and the place of what is wrong; also if there is no sample, or
            two have one id.
    """
    if spec.images is not None:
        samples = [
            Sample(path.relative_to(spec.images).as_posix(), path, leaf)
            for path, leaf in find_images(spec.images, taxonomy)
        ]
    else:
        assert spec.table is not None  # a DatasetSpec has exactly one of the two
        samples = []
        seen_at: dict[str, str] = {}
        for row in read_rows(spec.table, spec, taxonomy):
            if row.id in seen_at:
                raise ConfigError(
                    f"{row.place}: the sample id {row.id!r} is already that of {seen_at[row.id]}; "
                    "name an id_column without duplicates"
                )
            seen_at[row.id] = row.place
            samples.append(Sample(row.id, row.image, row.leaf, row.choices))
    if not samples:
        raise ConfigError(f"{spec.images or spec.table}: no image in it")
    return samples


def questions_of(dataset: Dataset, sample: Sample) -> list[Question] | None:
    """A sample's questions, level by level; ``None`` where they follow from the answers.

    Raises:
        SampleError: if options are to be drawn around a label that the sample does not have, or its
            own options do not fit the taxonomy.
    """
    spec = dataset.spec
    if sample.choices is not None and sample.leaf is not None:
        return given_questions(dataset.taxonomy, sample.leaf, sample.choices)
    if spec.distractors == "walk":
        return None
    if sample.leaf is None:
        raise SampleError(
            f"{sample.id} has no label to draw {spec.distractors} options around; "
            "`distractors: walk` needs none"
        )
    return labelled_questions(
        dataset.taxonomy,
        sample.leaf,
        sample_id=sample.id,
        distractors=spec.distractors,
        num_options=spec.num_options,
        seed=spec.seed,
    )


def read_image(path: Path) -> Image.Image:
    """The whole image as RGB, turned upright by its EXIF orientation.

    Raises:
        SampleError: if it is missing, truncated, no image, so large that it may be a bomb, or of
            pixels that have no white (32-bit integers, floats).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise SampleError(f"{path}: no such image") from error
    except UnidentifiedImageError as error:
        raise SampleError(f"{path}: not an image") from error
    except Exception as error:  # on broken bytes PIL raises most kinds, struct.error included
        raise SampleError(f"{path}: cannot be read: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB in 8 bits; unlike PIL's own conversion, brighter values are scaled and not cut at 255."""
    if image.mode == "I;16":
        image = image.point(lambda value: value * (1 / 256))
    elif image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {image.mode} have no known white; save it in 8 bits")
    return image.convert("RGB")


def read_unchanged(path: Path, sha256: str) -> Image.Image:
    """:func:`read_image`, of a file that must still have this hash.

    Raises:
        SampleError: also if the file was changed.
    """
    if image_sha256(path) != sha256:
        raise SampleError(f"{path}: not the image that the teacher saw; run sekd elicit again")
    return read_image(path)


def image_sha256(path: Path) -> str | None:
    """Hex SHA-256 of the file, ``None`` if it cannot be read."""
    try:
        return hash_file(path)
    except OSError:
        return None
