"""Config section ``model``."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sekd.config.base import DType, Section


class ModelSpec(Section):
    """The vision-language model, base of teacher and student."""

    path: str
    """A directory, a Hugging Face id, or ``tiny`` for the model inside this package."""
    revision: str | None = None
    """Commit, tag or branch of a Hugging Face id."""
    dtype: DType = "bfloat16"
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""
    processor_args: dict[str, Any] = {}
    """Passed to the processor as they are, e.g. ``{max_pixels: 1003520}``."""
    decoder_blocks: str | None = None
    """Module path of the language model's list of blocks, e.g. ``model.language_model.layers``.
    Only for a model where it is not found; the error lists what to choose from."""
    chat_template_args: dict[str, Any] = Field(default={}, exclude_if=lambda args: not args)
    """Variables for the model's chat template, e.g. ``{enable_thinking: false}``. Set them where a
    template has a switch whose default does not fit; the model's documentation names them."""
