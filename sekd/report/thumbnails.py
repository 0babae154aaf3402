"""Small copies of images that a page can carry inside itself."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sekd.config import RunConfig
from sekd.data.images import read_image
from sekd.data.samples import Dataset, Sample
from sekd.errors import ConfigError, SampleError
from sekd.report.cases import Case

logger = logging.getLogger(__name__)

MAX_SIDE = 256
"""Pixels of the longer side; a smaller image stays as it is."""
MAX_BYTES = 3_000_000
"""Of all thumbnails together, before they are encoded as text."""


@dataclass(frozen=True)
class Thumbnail:
    """``uri`` is empty where there is nothing to show, and ``reason`` says why."""

    uri: str = ""
    width: int = 0
    height: int = 0
    reason: str = ""


def thumbnails(
    cases: Iterable[Case], config: RunConfig | None
) -> Mapping[tuple[str, str], Thumbnail]:
    """(dataset, sample id) -> its picture; a file that cannot be read any more is no error."""
    by_dataset: dict[str, list[str]] = {}
    for case in cases:
        by_dataset.setdefault(case.dataset, []).append(case.sample_id)
    found: dict[tuple[str, str], Thumbnail] = {}
    num_bytes = 0
    for dataset, ids in by_dataset.items():
        try:
            samples = _samples(dataset, ids, config)
        except (ConfigError, OSError) as error:
            logger.warning("%s: the report goes without its pictures: %s", dataset, error)
            found |= {(dataset, each): Thumbnail(reason="dataset not found") for each in ids}
            continue
        for sample_id in ids:
            sample = samples.get(sample_id)
            if sample is None:
                found[dataset, sample_id] = Thumbnail(reason="not in the dataset any more")
            elif num_bytes >= MAX_BYTES:
                found[dataset, sample_id] = Thumbnail(reason="left out to keep the page small")
            else:
                size, found[dataset, sample_id] = _thumbnail(sample)
                num_bytes += size
    return found


def _samples(name: str, ids: Iterable[str], config: RunConfig | None) -> dict[str, Sample]:
    if config is None:
        raise ConfigError("no config that can be read")
    samples = Dataset.load(name, config.dataset(name, "the evaluation")).samples
    return {sample.id: sample for sample in samples.any_named(ids)}


def _thumbnail(sample: Sample) -> tuple[int, Thumbnail]:
    try:
        image = read_image(sample.image)
    except SampleError as error:
        logger.warning("%s: shown without its picture: %s", sample.id, error)
        return 0, Thumbnail(reason="cannot be read any more")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    content = io.BytesIO()
    image.save(content, "WEBP", quality=75)
    encoded = base64.b64encode(content.getvalue()).decode()
    width, height = image.size
    return len(content.getvalue()), Thumbnail(f"data:image/webp;base64,{encoded}", width, height)
