"""Fields that several stages share in their fingerprints: the model, the dataset, the images."""

from __future__ import annotations

import hashlib
from typing import Any

from sekd.config import DatasetSpec, ModelSpec
from sekd.data.image_hashes import ImageHashes
from sekd.data.questions import has_lookalikes
from sekd.data.samples import Dataset
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


_QUESTIONS = {
    *("options", "distractors", "num_options", "seed", "subject", "wording", "pixel_limit"),
}
"""Settings of a dataset that change what is asked about a sample, or whether it can be used. The
others say which samples there are, and each sample counts in the key of its shard."""


def dataset_settings(spec: DatasetSpec) -> dict[str, Any]:
    """Dump the settings of a dataset's questions as JSON, with the content of what they name.

    Raises:
        ConfigError: if the wording or the model is not there.
    """
    settings = spec.model_dump(mode="json", include=_QUESTIONS)
    if "wording" in settings:
        settings["wording"] = load_wording(spec.wording).settings()
    if spec.distractors == "similar" and spec.similar is not None:
        model = loading.model_identity(ModelSpec(path=spec.similar.model))
        settings["similar"] = {"by": spec.similar.by, "model": model}
    return settings


_OF_QUIZZES = ("distractors", "num_options", "similar")


def settings_without_quiz(spec: DatasetSpec) -> dict[str, Any]:
    """Dump the settings of a dataset without those that only quizzes depend on.

    Raises:
        ConfigError: as :func:`dataset_settings`.
    """
    settings = dataset_settings(spec)
    return {key: value for key, value in settings.items() if key not in _OF_QUIZZES}


def dataset_fields(dataset: Dataset) -> dict[str, Any]:
    """Identify what the questions about all samples of a dataset depend on.

    A taxonomy in which names read alike has a field of its own, because its questions became other
    ones. Ranks that follow from images count in the keys of shards.
    """
    fields: dict[str, Any] = {"taxonomy": dataset.taxonomy.digest()}
    if dataset.similar is not None and dataset.similar.spec.by == "name":
        fields["similar"] = dataset.similar.digest()
    if has_lookalikes(dataset.taxonomy):
        fields["lookalikes"] = "one of each in a question"
    if dataset.has_model_labels:
        fields["truth"] = "not known"
    return fields


def hash_images(dataset: Dataset) -> ImageHashes:
    """Hash a dataset's images, with a progress bar over those whose hash is not known yet."""
    hashes = ImageHashes(dataset.samples)
    if hashes.num_unknown:
        with show_progress(f"images of {dataset.name}", hashes.num_unknown) as progress:
            hashes.compute(progress.advance)
    return hashes
