"""Config section ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from sekd.config.base import (
    BASE,
    SOLVER,
    STUDENT,
    Control,
    DType,
    EngineName,
    Fraction,
    ModelName,
    ModelPath,
    Paradigm,
    Positive,
    Section,
)
from sekd.config.model import ModelSpec
from sekd.config.runtime import ShardRuntime


def _refuse_forced(control: object) -> object:
    if control == "forced":
        raise ValueError(
            "forced is a paradigm of its own: put joint_forced into evaluate.paradigms instead"
        )
    return control


_Control = Annotated[Control, BeforeValidator(_refuse_forced)]


class EvaluatedModel(Section):
    """One more model to evaluate: the config's own with an adapter, or the one at ``path``."""

    path: ModelPath | None = None
    """Another model, as in ``model.path``; ``null`` takes the config's model. None of the settings
    under ``model`` applies to another model."""
    revision: str | None = None
    """Commit, tag or branch of ``path``, as in ``model.revision``."""
    dtype: DType = "bfloat16"
    """Number format of ``path``, as in ``model.dtype``."""
    trust_remote_code: bool = False
    """Whether Python code that comes with ``path`` is run, as in ``model.trust_remote_code``."""
    processor_args: dict[str, Any] = {}
    """Arguments of the processor of ``path``, as in ``model.processor_args``. With an ``adapter``
    they replace those of the same name that it was trained with, which are used otherwise."""
    chat_template_args: dict[str, Any] = Field(default={}, exclude_if=lambda args: not args)
    """Variables for the chat template of ``path``, as in ``model.chat_template_args``."""
    adapter: Path | None = None
    """Directory of a PEFT adapter that the model answers with, e.g. that of another run's student;
    ``null`` takes the model itself."""

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        fields = type(self).model_fields
        given = [name for name in fields if getattr(self, name) != fields[name].default]
        of_an_adapter = {"adapter", "processor_args"} if self.adapter else set()
        if self.path is None and set(given) - of_an_adapter:
            raise ValueError(f"{', '.join(given)} without path: name the other model too")
        if self.path is None and self.adapter is None:
            raise ValueError("give path or adapter; without both it is the base")
        return self

    def spec(self, base: ModelSpec) -> ModelSpec:
        """Return the model to load: ``base``, the config's own, unless ``path`` names another."""
        if self.path is None:
            return base
        return ModelSpec(**self.model_dump(exclude={"adapter"}))


class EvaluateSpec(Section):
    """Last stage: models answer about labelled images.

    There is one cell for each combination of dataset, model, paradigm and control. The config's
    model (``base``) and its finished student (``student``) are always evaluated.
    """

    models: dict[ModelName, EvaluatedModel] = {}
    """More models to evaluate, by the name that they get in the tables."""
    datasets: tuple[str, ...] = ("test",)
    """Names of the datasets under ``data`` to evaluate on."""
    paradigms: tuple[Paradigm, ...] = ("joint", "joint_forced", "independent", "conditioned")
    """Ways to ask, out of those of :data:`sekd.config.Paradigm`. ``joint`` beside ``joint_forced``
    tells learning the form of a reply apart from learning the taxonomy. ``open`` lets the model
    name the path, and ``descent`` descends among the children of each answer (section ``descent``);
    these two alone can be asked about a dataset with ``options: children``, which has no quiz."""
    controls: tuple[Annotated[Control, BeforeValidator(_refuse_forced)], ...] = (
        "taxonomy",
        "blind",
    )
    """Ablations: each cell is repeated to see what its score owes to things other than the image.
    The choices are those of :data:`sekd.config.Control`. Not given by the paper."""
    control_limit: Positive | None = 500
    """Number of samples of each dataset that are asked under a control; ``null`` takes all. They
    are drawn evenly from all leaves, the same for every model, and each control is shown beside the
    plain figure on the same samples. The ``taxonomy`` control always takes all."""
    engine: EngineName = "transformers"
    """Library that runs the models: ``transformers`` for any model and machine, ``vllm`` for speed
    on GPUs."""
    engine_args: dict[str, Any] = {}
    """Arguments of the vLLM engine that change its numbers, e.g. ``{quantization: fp8}``. All
    others belong in ``runtime.engine_args``."""
    limit: Positive | None = None
    """Number of samples of each dataset, drawn evenly from all leaves; ``null`` takes all. Set it
    to try a config out, not for a result."""
    num_bootstrap: Positive = 1000
    """Number of bootstrap samples behind the interval of each difference. Rates need none."""
    alpha: Fraction = 0.95
    """Weight of the last level in ``dwpa``; the other levels share the rest evenly."""
    seed: int = 0
    """Seed of the samples that ``limit`` and ``control_limit`` draw, of the bootstrap, and of the
    order of the options under ``shuffled``."""
    runtime: ShardRuntime = ShardRuntime()
    """How the stage is carried out."""

    @model_validator(mode="after")
    def _has_unique_names(self) -> Self:
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
