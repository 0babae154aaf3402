"""How the student sees images: as its teacher does, or in fewer tokens."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from PIL import Image

from sekd.config import ModelSpec, RunConfig
from sekd.errors import ConfigError, SampleError
from sekd.models.adapters import adapted_spec, read_processor_args
from sekd.models.batching import Batcher
from sekd.models.chat import load_chat

logger = logging.getLogger(__name__)

_SIDE = 1024
"""Side in pixels of the square image whose tokens are counted, about as large as a photograph."""


@dataclass(frozen=True)
class StudentImages:
    """The tokens that one large image takes in a prompt of the teacher, and of the student."""

    teacher_tokens: int
    student_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.student_tokens:,} tokens for one of {_SIDE}x{_SIDE} pixels in the student's "
            f"prompt, {self.teacher_tokens:,} in the teacher's"
        )


def student_spec(config: RunConfig) -> ModelSpec:
    """Return the model with the processor arguments that the student is trained with.

    They are the model's, or those that ``distill.initial_adapter`` was trained with, and
    ``distill.processor_args`` over them.
    """
    spec = adapted_spec(config.model, config.distill.initial_adapter)
    processor_args = spec.processor_args | config.distill.processor_args
    return spec.model_copy(update={"processor_args": processor_args})


def compare_images(config: RunConfig) -> StudentImages | None:
    """Count the tokens of an image for teacher and student, and warn of what looks unintended.

    Returns ``None`` if both see images alike.

    Raises:
        ConfigError: if the model's processor does not take the arguments of the student.
    """
    teacher, student = adapted_spec(config.model, config.elicit.adapter), student_spec(config)
    if student == teacher:
        return None
    try:
        images = StudentImages(_count_tokens(teacher), _count_tokens(student))
    except (ConfigError, SampleError) as error:
        raise ConfigError(
            f"distill.processor_args {config.distill.processor_args}: {error}"
        ) from error
    if images.student_tokens < images.teacher_tokens:
        logger.info("images take %s", images)
    else:
        logger.warning(
            "distill.processor_args %s: no fewer tokens for the student: %s; does the processor "
            "know the arguments by these names?",
            config.distill.processor_args,
            images,
        )
    initial = config.distill.initial_adapter
    kept = read_processor_args(initial) if initial else None
    if kept is not None and kept != student.processor_args:
        logger.warning(
            "distill.processor_args: distill.initial_adapter was trained with %s; it is trained "
            "further with %s",
            kept,
            student.processor_args,
        )
    return images


def _count_tokens(spec: ModelSpec) -> int:
    """Count the tokens that one large image takes in place of its placeholder."""
    chat = load_chat(spec, subject="organism")
    image = Image.new("RGB", (_SIDE, _SIDE), (120, 140, 90))
    (shift,) = Batcher(chat)([chat.image_prefix_ids], [image], ["large"]).shifts
    return shift + 1
