"""Config section ``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sekd.config.base import (
    Distance,
    Divergence,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    Positive,
    Section,
)


class LossWeights(Section):
    """Weights of the loss terms; 1 : 1 : 1 is not given by the paper."""

    hard: NonNegativeFloat = 1.0
    """Cross-entropy on the teacher's letters."""
    format: NonNegativeFloat = 1.0
    """Cross-entropy on the tokens around the letters: level and node names."""
    soft: NonNegativeFloat = 1.0
    """Divergence of the teacher's and the student's distribution at the letters."""
    feature: NonNegativeFloat = 1.0
    """Distance between decoder states at the letters."""
    replay: NonNegativeFloat = 2.0
    """KL divergence from the base to the student on replayed sequences; see ``distill.replay``."""
    text: NonNegativeFloat = 0.0
    """Cross-entropy on all tokens of the answer alike, as plain fine-tuning has it: a baseline."""
    levels: tuple[NonNegativeFloat, ...] = ()
    """Relative weight of each level's letter in hard, soft and feature, from the first level on;
    1 beyond the last one given. Not given by the paper."""

    @model_validator(mode="after")
    def _teaches_something(self) -> Self:
        if not (self.hard or self.format or self.soft or self.feature or self.text):
            raise ValueError("hard, format, soft, feature and text are all 0: nothing is learned")
        return self


class LoraSpec(Section):
    """Low-rank adapter on the linear layers of the language model."""

    rank: Positive = 64
    alpha: Positive = 64
    dropout: Fraction = 0.2
    target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Last part of module names, or full paths. Only layers inside the language model's blocks are
    adapted; a full path to anything else is an error."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank, for high ranks."""
    dora: bool = False
    """Learn lengths and directions apart. vLLM does not serve such adapters; merge them first."""
    load_in_4bit: bool = False
    """Train over a base in 4 bits (QLoRA); wants bitsandbytes. Its vision tower, its merger and its
    ``lm_head`` keep ``model.dtype``. Not given by the paper."""


class DistillRuntime(Section):
    """How training is carried out; together with ``torchrun`` for several devices."""

    batch_size: Positive = 8
    """Samples per device and forward pass; gradients accumulate up to the global batch."""
    num_workers: NonNegativeInt = 4
    """Processes per device that read and prepare images while the device trains; 0 for none."""
    gradient_checkpointing: bool = False
    save_steps: Positive = 200
    logging_steps: Positive = 10
    report_to: tuple[str, ...] = ()
    """Trackers as transformers names them, e.g. ``[wandb]``. None unless asked."""


class DistillSpec(Section):
    """Stage two: the LoRA student learns the joint prompt from the teacher's shards."""

    labels: Literal["teacher", "truth"] = "teacher"
    """Whose answers are learned. ``truth`` is the baseline of plain fine-tuning on labelled
    images; it takes no soft and no feature term."""
    losses: LossWeights = LossWeights()
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the soft term. Other than 1 only where the states have ``final_norm``."""
    divergence: Divergence = "forward"
    """Of the soft term: ``forward`` is KL(teacher || student). Not given by the paper."""
    distance: Distance = "cosine"
    """Of the feature term; ``mse`` is relative to the teacher's length. Not given by the paper."""
    layers: tuple[str, ...] = ()
    """Layers of the feature term, of those that ``elicit.layers`` stores; all if not given."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.35
    """Share of the sequences that keep a skill of the base instead of teaching the joint prompt:
    the teacher's dialogues, its questions asked one by one, and its replies to ``elicit.plain``.
    The student is held to the base's distribution there. Not given by the paper."""
    min_confidence: Fraction = 0.0
    """Samples with an answer of which the teacher is less confident (its probability among the
    options) are left out. Not given by the paper."""
    lora: LoraSpec = LoraSpec()
    initial_adapter: Path | None = None
    """Directory of an adapter to go on from, instead of a fresh one; it has the same ``lora``."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    global_batch: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps in which the learning rate rises."""
    weight_decay: NonNegativeFloat = 0.1
    seed: int = 0
    runtime: DistillRuntime = DistillRuntime()

    @model_validator(mode="after")
    def _has_signals_of_its_labels(self) -> Self:
        if self.labels == "truth" and (self.losses.soft or self.losses.feature):
            raise ValueError(
                "labels: truth: the teacher's distributions and states are of its own answers; "
                "set losses.soft and losses.feature to 0"
            )
        return self
