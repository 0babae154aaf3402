"""Apply a control of :mod:`sekd.data.controls` to a prepared sample."""

from __future__ import annotations

from dataclasses import replace

from sekd.data.controls import ControlCondition
from sekd.stages.prepare import PreparedSample


def apply_control(
    condition: ControlCondition, prepared: PreparedSample, seed: int
) -> list[PreparedSample]:
    """Return the variants of a sample that a model answers under a control, at least one.

    Args:
        prepared: with its questions made.
        seed: ``evaluate.seed``.
    """
    if not condition.shows_image:
        prepared = replace(prepared, image=None, image_key="")
    variants = condition.variants(prepared.questions or (), prepared.sample.id, seed)
    return [replace(prepared, questions=questions) for questions in variants]
