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


class SweepSpec(Section):
    """Students of one teacher side by side, each with some settings of ``distill`` of its own."""

    variants: dict[ModelName, dict[str, Any]] = ABLATION
    """By name, what differs from ``distill``, e.g. ``{small: {lora: {rank: 16}}}``. If not given,
    the paper's ablation (``hard``, ``hard_soft``, ``full``) and two baselines: plain fine-tuning on
    the teacher's answers (``text``) and, where all images are labelled, on the labels (``truth``).
    Replay is as ``distill`` has it in all of them."""
    seeds: tuple[int, ...] = ()
    """Each variant is trained once with each, in place of ``distill.seed``."""

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: one occurs twice in {', '.join(map(str, self.seeds))}")
        taken = {BASE, STUDENT, SOLVER} & self.variants.keys()
        if taken:
            raise ValueError(f"variants: {', '.join(sorted(taken))} is taken; give another name")
        return self
