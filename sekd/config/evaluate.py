"""Config section ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sekd.config.base import (
    BASE,
    SOLVER,
    STUDENT,
    Control,
    DType,
    Fraction,
    ModelName,
    Paradigm,
    Positive,
    Section,
)
from sekd.config.model import ModelSpec
from sekd.config.runtime import ShardRuntime


class EvaluatedModel(Section):
    """One more model to evaluate: the config's own, unless ``path`` names another."""

    path: str | None = None
    """As ``model.path``. The settings of the config's model do not carry over to another one."""
    revision: str | None = None
    dtype: DType = "bfloat16"
    trust_remote_code: bool = False
    processor_args: dict[str, Any] = {}
    chat_template_args: dict[str, Any] = Field(default={}, exclude_if=lambda args: not args)
    """As ``model.chat_template_args``."""
    adapter: Path | None = None
    """Directory of a PEFT adapter to answer with, e.g. that of another run's student."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        fields = type(self).model_fields
        given = [name for name in fields if getattr(self, name) != fields[name].default]
        if self.path is None and set(given) - {"adapter"}:
            raise ValueError(f"{', '.join(given)} without path: name the other model too")
        if self.path is None and self.adapter is None:
            raise ValueError("give path or adapter; without both it is the base")
        return self

    def spec(self, own: ModelSpec) -> ModelSpec:
        """The model to load; ``own`` is the config's."""
        if self.path is None:
            return own
        return ModelSpec(**self.model_dump(exclude={"adapter"}))


class EvaluateSpec(Section):
    """Last stage: models on labelled images, one cell for each dataset, model, paradigm, control.

    The config's model (``base``) and its finished student (``student``) are always there.
    """

    models: dict[ModelName, EvaluatedModel] = {}
    """More models, by the name that they get in the tables."""
    datasets: tuple[str, ...] = ("test",)
    """Names under ``data``."""
    paradigms: tuple[Paradigm, ...] = ("joint", "independent", "conditioned")
    controls: tuple[Control, ...] = ("taxonomy", "blind")
    """What each cell is done again under, to tell what its figures owe to something else than the
    image: ``blind`` (no image), ``shuffled`` (options in another order), ``circular`` (options in
    every rotation; right is what is right in all of them), ``siblings`` (wrong options of the same
    parent); and ``taxonomy``, what a solver scores that knows the taxonomy and sees the options
    alone. ``circular`` asks as often as there are options. Not given by the paper."""
    control_limit: Positive | None = 500
    """Only the first so many samples of each dataset under a control; ``taxonomy`` takes all."""
    engine: Literal["transformers", "vllm"] = "transformers"
    engine_args: dict[str, Any] = {}
    limit: Positive | None = None
    """Only the first so many samples of each dataset."""
    num_bootstrap: Positive = 1000
    alpha: Fraction = 0.95
    """Weight of the last level in ``dwpa``."""
    seed: int = 0
    """Of the bootstrap, and of the order under ``shuffled``."""
    runtime: ShardRuntime = ShardRuntime()

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        for key in ("datasets", "paradigms", "controls"):
            names: tuple[str, ...] = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: a name occurs twice in {', '.join(names)}")
        taken = {BASE, STUDENT, SOLVER} & self.models.keys()
        if taken:
            raise ValueError(
                f"models: {', '.join(sorted(taken))} is always there; give another name"
            )
        return self
