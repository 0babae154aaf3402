"""Fields that several stages share in their fingerprints: the model, the dataset, the images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from sekd.config import DatasetSpec, ModelSpec
from sekd.data.image_hashes import ImageHashes
from sekd.data.questions import has_lookalikes
from sekd.data.samples import Dataset
from sekd.io.hashing import canonical_json
from sekd.models import loading
from sekd.models.chat import load_chat
from sekd.models.prompts import PROMPT_VERSION
from sekd.models.wording import load_wording
from sekd.pipeline.progress import show_progress


def model_fields(spec: ModelSpec) -> dict[str, Any]:
    """Identify a model, its chat template and the wording of the prompts.

    What sekd itself puts around a turn (special tokens in front of the text, the end of a reasoning
    block) is a field of its own, where there is any.

    Raises:
        ConfigError: if the model's chat template cannot be used.
    """
    chat = load_chat(spec, subject="organism")
    added = {"turns": chat.added_around_turns} if any(chat.added_around_turns.values()) else {}
    return {
        "model": loading.model_identity(spec),
        "chat_template": hashlib.sha256(chat.template_source.encode()).hexdigest(),
        "prompts": PROMPT_VERSION,
        **added,
    }


def dataset_settings(spec: DatasetSpec) -> dict[str, Any]:
    """Dump the settings of a dataset as JSON, with the content of what they name.

    Raises:
        ConfigError: if the wording or the model is not there.
    """
    settings = spec.model_dump(mode="json")
    if "wording" in settings:
        settings["wording"] = load_wording(spec.wording).settings()
    if spec.distractors != "similar":
        settings.pop("similar", None)
    elif spec.similar is not None:
        settings["similar"]["model"] = loading.model_identity(ModelSpec(path=spec.similar.model))
    return settings


def dataset_fields(dataset: Dataset, images: Iterable[str | None]) -> dict[str, Any]:
    """Identify a dataset by its taxonomy and its samples, in their order.

    A sample counts with its id, the content of its image, its label and its own options. A taxonomy
    in which names read alike has a field of its own, because its questions became other ones.

    Args:
        images: the SHA-256 of each sample's image; ``None`` where it cannot be read.
    """
    samples = hashlib.sha256()
    for sample, image in zip(dataset.samples, images, strict=True):
        leaf_id = None if sample.leaf is None else sample.leaf.id
        row = [sample.id, image, leaf_id, sample.choices]
        samples.update(f"{canonical_json(row)}\n".encode())
    fields: dict[str, Any] = {"taxonomy": dataset.taxonomy.digest(), "samples": samples.hexdigest()}
    if dataset.similar is not None:
        fields["similar"] = dataset.similar.digest()
    if has_lookalikes(dataset.taxonomy):
        fields["lookalikes"] = "one of each in a question"
    return fields


def hash_images(dataset: Dataset) -> ImageHashes:
    """Hash a dataset's images, with a progress bar over those whose hash is not known yet."""
    hashes = ImageHashes(dataset.samples)
    if hashes.num_unknown:
        with show_progress(f"images of {dataset.name}", hashes.num_unknown) as progress:
            hashes.compute(progress.advance)
    return hashes
