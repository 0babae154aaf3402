"""Samples: an image, an id, and the leaf it belongs to where that is known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from sekd.config import DatasetSpec
from sekd.data.hashing import hash_file
from sekd.data.questions import Question, given_questions, labelled_questions
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError, SampleError


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Attributes:
        id: unique in its dataset: the image's path as the source names it, or a column's value.
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
        samples = tuple(load_samples(spec, taxonomy))
        source = spec.images or spec.table
        if not samples:
            raise ConfigError(f"{source}: no image in it (data.{name})")
        seen: set[str] = set()
        for sample in samples:
            if sample.id in seen:
                raise ConfigError(
                    f"{source}: the sample id {sample.id!r} occurs twice; name an id_column "
                    f"without duplicates (data.{name})"
                )
            seen.add(sample.id)
        return cls(name, spec, taxonomy, samples)

    def first(self, num_samples: int) -> Dataset:
        """The same dataset, cut to its first samples."""
        return replace(self, samples=self.samples[:num_samples])


def load_samples(spec: DatasetSpec, taxonomy: Taxonomy) -> Iterator[Sample]:
    """Samples of a folder or a table, in a fixed order.

    Raises:
        ConfigError: naming the file and the place of what is wrong.
    """
    # Here and not above: the sources build Samples.
    from sekd.data.sources.folder import folder_samples
    from sekd.data.sources.table import table_samples

    if spec.images is not None:
        return folder_samples(spec.images, taxonomy)
    assert spec.table is not None  # DatasetSpec holds exactly one of the two
    return table_samples(spec.table, spec, taxonomy)


def questions_of(dataset: Dataset, sample: Sample) -> list[Question] | None:
    """A sample's questions, level by level; ``None`` where they follow from the answers.

    Raises:
        SampleError: if options are to be drawn around a label that the sample does not have.
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
        SampleError: if it is missing, truncated, no image, or so large that it may be a bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise SampleError(f"{path}: no such image") from error
    except UnidentifiedImageError as error:
        raise SampleError(f"{path}: not an image") from error
    except (
        OSError,
        ValueError,
        SyntaxError,  # PIL's word for a broken PNG chunk
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        raise SampleError(f"{path}: cannot be read: {error}") from error


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
