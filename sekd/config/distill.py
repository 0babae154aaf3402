"""Config section ``distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sekd.config.base import (
    Distance,
    Divergence,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    Paradigm,
    Positive,
    Section,
)


class LossWeights(Section):
    """Weights of the loss terms; a term with weight 0 is not computed. The paper does not give the
    weights 1 : 1 : 1. Change them for ablations."""

    hard: NonNegativeFloat = 1.0
    """Weight of the cross-entropy on the teacher's letters."""
    format: NonNegativeFloat = 1.0
    """Weight of the cross-entropy on the tokens around the letters: level names and node names."""
    soft: NonNegativeFloat = 1.0
    """Weight of the divergence between the teacher's and the student's distribution at the letters;
    see ``distill.divergence``."""
    feature: NonNegativeFloat = 1.0
    """Weight of the distance between the teacher's and the student's decoder states at the letters;
    see ``distill.distance``."""
    replay: NonNegativeFloat = 2.0
    """Weight of the KL divergence from the base to the student on replayed sequences; see
    ``distill.replay``. Raise it if the student forgets what the base can do. Not given by the
    paper."""
    text: NonNegativeFloat = 0.0
    """Weight of the cross-entropy on all tokens of the answer alike, as in plain fine-tuning. For
    that baseline, set it to 1 and hard, format, soft and feature to 0."""
    levels: tuple[NonNegativeFloat, ...] = ()
    """Relative weight of each level's letter in the hard, soft and feature terms, from the first
    level on; further levels have weight 1. Raise the weights of levels that the student gets wrong.
    Not given by the paper."""

    @model_validator(mode="after")
    def _teaches_something(self) -> Self:
        if not (self.hard or self.format or self.soft or self.feature or self.text):
            raise ValueError("hard, format, soft, feature and text are all 0: nothing is learned")
        return self


class LoraSpec(Section):
    """The low-rank adapter on the linear layers of the language model."""

    rank: Positive = 64
    """Rank of the update of each layer. A lower rank makes a smaller adapter that can learn
    less."""
    alpha: Positive = 64
    """Scale of the update: alpha / rank multiplies it. Usually rank, or twice the rank."""
    dropout: Fraction = 0.2
    """Probability of dropping an input of the adapter in training. Lower it for small models or
    short trainings."""
    target_modules: tuple[str, ...] | None = None
    """Layers to adapt: last parts of module names, or full paths. ``null`` takes all linear layers
    of the language model's blocks except routers of experts; ``sekd plan`` lists them. Only layers
    inside these blocks can be adapted; any other full path is an error. Tensors that hold all
    experts of a block are adapted only if they are named with their module, e.g.
    ``experts.gate_up_proj``; that takes ``dropout: 0`` and much memory."""
    rslora: bool = False
    """Whether the scale is alpha / sqrt(rank) instead of alpha / rank. Use it for high ranks."""
    dora: bool = False
    """Whether magnitudes and directions of the weights are learned separately (DoRA). vLLM does not
    serve such adapters; merge them into the model first."""
    load_in_4bit: bool = False
    """Whether the base model is loaded in 4 bits (QLoRA), to save memory. It needs bitsandbytes.
    The vision tower, the merger, the ``lm_head`` and tensors that hold all experts of a block keep
    ``model.dtype``. Not given by the paper."""


class DistillRuntime(Section):
    """How training runs on this machine; not part of the adapter's fingerprint. Start sekd with
    ``torchrun`` for several devices."""

    batch_size: Positive = 8
    """Sequences per device and forward pass; gradients are accumulated up to the global batch.
    Lower it if the device runs out of memory."""
    num_workers: NonNegativeInt = 4
    """Processes per device that read and prepare images while the device trains; 0 for none. Raise
    it if the device waits for images."""
    gradient_checkpointing: bool = False
    """Whether activations are recomputed in the backward pass, which saves memory and costs time.
    Turn it on if not even a small ``batch_size`` fits."""
    save_steps: Positive = 200
    """Optimizer steps between two checkpoints; a killed training resumes from the last one."""
    logging_steps: Positive = 10
    """Optimizer steps between two lines of the log."""
    report_to: tuple[str, ...] = ()
    """Experiment trackers that get the log, by their names in transformers, e.g. ``[wandb]``."""


class DistillSpec(Section):
    """Stage two: the LoRA student learns the joint prompt from the teacher's shards."""

    labels: Literal["teacher", "truth"] = "teacher"
    """Whose answers are learned: the teacher's, or the labels of the images. ``truth`` is the
    baseline of plain fine-tuning on labelled images; it allows no soft and no feature term."""
    formats: tuple[Literal["quiz", "open"], ...] = Field(
        default=("quiz",), exclude_if=lambda formats: formats == ("quiz",)
    )
    """The prompts that the student learns to answer: ``quiz`` is the joint prompt with its options,
    ``open`` asks for the names without options, and ``[quiz, open]`` takes each sample once in
    each. Not given by the paper. A sample is named only where its answers are a path to a leaf. The
    soft term of ``open`` takes the probabilities of all children from the labels of a descent,
    where there are any, and else those of the options that were asked about."""
    losses: LossWeights = LossWeights()
    """Weights of the loss terms."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the soft term: it divides the logits of both models, and its square multiplies
    the loss. Raise it to give unlikely tokens more weight. A value other than 1 needs the states of
    ``final_norm`` in ``elicit.layers``."""
    divergence: Divergence = "forward"
    """Divergence of the soft term: ``forward`` is KL(teacher || student), ``reverse`` is KL(student
    || teacher), ``jsd`` is the Jensen-Shannon divergence. The paper does not give the direction."""
    distance: Distance = "cosine"
    """Distance of the feature term: ``cosine``, or ``mse``, which is relative to the squared length
    of the teacher's state. Not given by the paper."""
    layers: tuple[str, ...] = ()
    """Layers of the feature term, out of those that ``elicit.layers`` stores. Empty means all."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.35
    """Share of replayed sequences in the training set. They keep the skills of the base model
    instead of teaching the joint prompt: the teacher's dialogues, its questions one at a time, and
    its replies to ``elicit.plain``. On them the student is held to the base's distribution. Raise
    it if the student forgets what the base can do. Not given by the paper."""
    min_confidence: Fraction = 0.0
    """Least confidence of the teacher, which is the probability of its answer among the options.
    Samples with any answer below it are left out. Raise it if the teacher often guesses. Not given
    by the paper."""
    lora: LoraSpec = LoraSpec()
    """The adapter that is trained."""
    processor_args: dict[str, Any] = Field(default={}, exclude_if=lambda args: not args)
    """Arguments of the processor for the student, in addition to ``model.processor_args`` and in
    place of those of the same name. Use them to show the student fewer visual tokens than its
    teacher saw, e.g. ``{max_pixels: 200704}``: the image is most of a prompt. The adapter keeps
    them, and is evaluated and merged with them. Not given by the paper."""
    initial_adapter: Path | None = None
    """Directory of an adapter to continue from, instead of a new one. Its settings must be those of
    ``lora``."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the training set; fractions are possible. Raise it for small datasets."""
    global_batch: Positive = 128
    """Sequences per optimizer step, over all devices. It must be a multiple of
    ``runtime.batch_size`` times the number of devices."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Highest learning rate; it falls along a cosine to 0. Lower it if the loss explodes."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: NonNegativeFloat = 0.1
    """Weight decay of the AdamW optimizer, on the adapter's weights."""
    seed: int = 0
    """Seed of everything random: the adapter's first weights, dropout, the order of sequences and
    options, and the choice of replayed samples. Change it to measure the spread between runs."""
    runtime: DistillRuntime = DistillRuntime()
    """How training is carried out."""

    @property
    def learned_paradigm(self) -> Paradigm:
        """The paradigm of the evaluation that asks for what students learn."""
        return "joint" if "quiz" in self.formats else "open"

    @model_validator(mode="after")
    def _has_formats(self) -> Self:
        if not self.formats or len(set(self.formats)) < len(self.formats):
            raise ValueError("formats: give quiz, open, or both of them")
        return self

    @model_validator(mode="after")
    def _has_signals_of_its_labels(self) -> Self:
        if self.labels == "truth" and (self.losses.soft or self.losses.feature):
            raise ValueError(
                "labels: truth: the teacher's distributions and states belong to its own answers; "
                "set losses.soft and losses.feature to 0"
            )
        return self
