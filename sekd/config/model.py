"""Config section ``model``."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from sekd.config.base import DType, Section


class ModelSpec(Section):
    """The vision-language model that is the teacher and the base of the student."""

    path: Annotated[str, AfterValidator(os.path.expanduser)]
    """A directory, or a Hugging Face id of a model that was downloaded already."""
    revision: str | None = None
    """Commit, tag or branch of a Hugging Face id; ``null`` takes the default branch."""
    dtype: DType = "bfloat16"
    """Number format in which the model is loaded. ``float32`` is for small models and for CPUs;
    ``float16`` is for GPUs without ``bfloat16``."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model is run. Set it only if you have read that
    code."""
    processor_args: dict[str, Any] = {}
    """Arguments of the model's processor, e.g. ``{max_pixels: 1003520}``. Limits on the image size
    decide how many tokens an image takes, and so the speed."""
    decoder_blocks: str | None = None
    """Module path of the language model's list of blocks, e.g. ``model.language_model.layers``;
    ``null`` lets sekd find it. Set it for a model where that fails; the error lists what to choose
    from."""
    chat_template_args: dict[str, Any] = Field(default={}, exclude_if=lambda args: not args)
    """Variables for the model's chat template, e.g. ``{enable_thinking: false}``. Set them where
    the default of a switch in the template does not fit; the model's documentation names them."""
