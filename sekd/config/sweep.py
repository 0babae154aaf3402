"""Config section ``sweep``."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from sekd.config.base import BASE, SOLVER, STUDENT, ModelName, Section

_NO_TEACHER = {"hard": 0.0, "format": 0.0, "soft": 0.0, "feature": 0.0, "text": 1.0}
ABLATION: dict[str, dict[str, Any]] = {
    "hard": {"losses": {"soft": 0.0, "feature": 0.0}},
    "hard_soft": {"losses": {"feature": 0.0}},
    "full": {},
    "text": {"losses": _NO_TEACHER},
    "truth": {"labels": "truth", "losses": _NO_TEACHER},
}
"""The default variants: three of the paper's ablation and two baselines."""


class SweepSpec(Section):
    """Students of one teacher, trained with different settings and evaluated side by side."""

    variants: dict[ModelName, dict[str, Any]] = ABLATION
    """Name of a student -> the settings in which it differs from ``distill``, e.g.
    ``{small: {lora: {rank: 16}}}``. The default is the paper's ablation (``hard``, ``hard_soft``,
    ``full``) and two baselines: plain fine-tuning on the teacher's answers (``text``) and, if all
    images are labelled, on the labels (``truth``). All of them replay as ``distill`` says."""
    seeds: tuple[int, ...] = ()
    """Seeds that each variant is trained with, once for each, instead of ``distill.seed``. Give
    several to see how much of a difference is chance."""

    @model_validator(mode="after")
    def _has_unique_names(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: one occurs twice in {', '.join(map(str, self.seeds))}")
        taken = {BASE, STUDENT, SOLVER} & self.variants.keys()
        if taken:
            raise ValueError(f"variants: {', '.join(sorted(taken))} is taken; give another name")
        return self
