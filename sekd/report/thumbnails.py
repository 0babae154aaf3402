"""Small copies of images that a page can carry inside itself."""

from __future__ import annotations

import base64
import io
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sekd.config import RunConfig
from sekd.data.image_refs import ImageRef
from sekd.data.images import Reading, read_image
from sekd.data.samples import Dataset, Sample
from sekd.errors import ConfigError, SampleError
from sekd.report.cases import Case

logger = logging.getLogger(__name__)

MAX_SIDE = 256
"""Pixels of the longer side; a smaller image keeps its size."""
MAX_BYTES = 3_000_000
"""Limit for all thumbnails together, before they are encoded as text."""


@dataclass(frozen=True)
class Thumbnail:
    """A small image, or the reason why there is none.

    Attributes:
        uri: a data URI; empty where there is no image.
        num_bytes: the size of the image, before it was encoded as text.
    """

    uri: str = ""
    width: int = 0
    height: int = 0
    num_bytes: int = 0
    reason: str = ""


def make_thumbnails(
    cases: Iterable[Case], config: RunConfig | None
) -> Mapping[tuple[str, str], Thumbnail]:
    """Return (dataset, sample id) -> thumbnail; an image that cannot be read is no error."""
    by_dataset: dict[str, list[str]] = {}
    for case in cases:
        by_dataset.setdefault(case.dataset, []).append(case.sample_id)
    thumbnails: dict[tuple[str, str], Thumbnail] = {}
    num_bytes = 0
    for dataset, sample_ids in by_dataset.items():
        samples = _load_samples(dataset, sample_ids, config)
        for sample_id in sample_ids:
            if samples is None:
                thumbnail = Thumbnail(reason="dataset not found")
            elif sample_id not in samples:
                thumbnail = Thumbnail(reason="not in the dataset any more")
            elif num_bytes >= MAX_BYTES:
                thumbnail = Thumbnail(reason="left out to keep the page small")
            else:
                thumbnail = make_thumbnail(samples[sample_id].image)
            num_bytes += thumbnail.num_bytes
            thumbnails[dataset, sample_id] = thumbnail
    return thumbnails


def _load_samples(
    name: str, sample_ids: Sequence[str], config: RunConfig | None
) -> dict[str, Sample] | None:
    """Return sample id -> sample; ``None``, with a warning, if the dataset cannot be loaded."""
    try:
        if config is None:
            raise ConfigError("no config that can be read")
        samples = Dataset.load(name, config.dataset(name, "the evaluation")).samples
        return {sample.id: sample for sample in samples.any_named(sample_ids)}
    except (ConfigError, OSError) as error:
        logger.warning("%s: the report is written without its images: %s", name, error)
        return None


def make_thumbnail(ref: ImageRef, max_side: int = MAX_SIDE) -> Thumbnail:
    """Make a thumbnail of at most ``max_side`` pixels on its longer side.

    An image that cannot be read is no error: the thumbnail says so.
    """
    # A model was shown the image before, within the limit of its dataset.
    reading = Reading(pixel_limit=sys.maxsize, used_pixels=lambda: max_side**2)
    try:
        image = read_image(ref, reading)
    except SampleError as error:
        logger.warning("shown without its image: %s", error)
        return Thumbnail(reason="cannot be read any more")
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    content = buffer.getvalue()
    encoded = base64.b64encode(content).decode()
    return Thumbnail(
        uri=f"data:image/webp;base64,{encoded}",
        width=image.width,
        height=image.height,
        num_bytes=len(content),
    )
