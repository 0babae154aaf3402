"""What a stage depends on: model, dataset and images, as fields of a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from sekd.config import ModelSpec
from sekd.data.image_hashes import ImageHashes
from sekd.data.samples import Dataset
from sekd.io.hashing import canonical_json
from sekd.models import loading
from sekd.models.prompts import PROMPT_VERSION
from sekd.pipeline.progress import show_progress


def model_fields(spec: ModelSpec) -> dict[str, Any]:
    """What of the model, its template and our words goes into every fingerprint."""
    chat_template = loading.load_processor(spec).chat_template or ""
    return {
        "model": loading.model_identity(spec),
        "chat_template": hashlib.sha256(str(chat_template).encode()).hexdigest(),
        "prompts": PROMPT_VERSION,
    }


def dataset_fields(dataset: Dataset, images: Iterable[str | None]) -> dict[str, Any]:
    """What of a dataset goes into a fingerprint: taxonomy, order, labels, options, image content.

    Args:
        images: SHA-256 of each sample's image.
    """
    samples = hashlib.sha256()
    for sample, image in zip(dataset.samples, images, strict=True):
        row = [sample.id, image, sample.leaf and sample.leaf.id, sample.choices]
        samples.update(f"{canonical_json(row)}\n".encode())
    return {"taxonomy": dataset.taxonomy.digest(), "samples": samples.hexdigest()}


def hash_images(dataset: Dataset) -> ImageHashes:
    """Hashes of a dataset's images, with a progress bar over those not yet known."""
    hashes = ImageHashes(dataset.samples)
    if hashes.num_unknown:
        with show_progress(f"images of {dataset.name}", hashes.num_unknown) as progress:
            hashes.compute(progress.advance)
    return hashes
