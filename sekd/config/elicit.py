"""Config section ``elicit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from sekd.config.base import (
    AnswerForm,
    EngineName,
    Fraction,
    NonNegativeFloat,
    Positive,
    Section,
    StateDType,
)
from sekd.config.runtime import ShardRuntime


class PlainSpec(Section):
    """Prompts without a taxonomy, whose replies the student should not forget.

    The replies are stored and replayed in training: see ``distill.replay``. Not given by the paper.
    """

    prompts: tuple[str, ...] = ("Describe the image.",)
    """Prompts to choose from; each image of the share gets one of them. An empty list turns plain
    prompts off."""
    share: Fraction = 0.1
    """Fraction of the images that get a plain prompt."""
    max_new_tokens: Positive = 64
    """Length in tokens at which a reply is cut."""


class ElicitSpec(Section):
    """Stage one: the frozen teacher answers one question per level of the taxonomy."""

    dataset: str = "train"
    """Name of the dataset under ``data`` that the teacher answers about."""
    limit: Positive | None = None
    """Number of samples of the dataset to take, the first ones; ``null`` takes all. What they yield
    is kept when the rest follows. Set it to try a config out."""
    engine: EngineName = "transformers"
    """Library that runs the teacher: ``transformers`` for any model and machine, ``vllm`` for
    speed on GPUs."""
    engine_args: dict[str, Any] = {}
    """Arguments of the vLLM engine that change its numbers, e.g. ``{quantization: fp8}``. All
    others belong in ``runtime.engine_args``."""
    adapter: Path | None = None
    """Directory of a PEFT adapter that the teacher answers with, e.g. that of an earlier student;
    ``null`` takes the model itself."""
    style: Literal["dialogue", "facts"] = "dialogue"
    """How earlier answers reach the next question. ``dialogue`` is one growing dialogue, in which
    each turn reuses the computation of the turns before; ``facts`` is the paper's literal form,
    which starts a new prompt for each level and lists the known facts in its question."""
    answer: AnswerForm = "letter_and_name"
    """What the dialogue repeats as the teacher's answer: ``letter`` is "B", ``letter_and_name`` is
    "B. chordata". Not given by the paper."""
    permutations: Annotated[int, Field(ge=1, le=26)] = 1
    """Number of orders in which the options of each question are shown. The orders are rotations,
    and the probabilities are averaged by node. More orders lower the bias towards some letters and
    take that many times as long. Not given by the paper."""
    plain: PlainSpec = PlainSpec()
    """Prompts without a taxonomy, for replay."""
    top_k: Annotated[int, Field(ge=1, le=1000)] = 20
    """Number of vocabulary entries whose probability is stored for each answer, beside the
    options'."""
    layers: tuple[str, ...] = ("middle", "final_norm")
    """Decoder states to store: ``block_<i>`` is the output of block i (from 0), ``middle`` that of
    the block half way up, and ``final_norm`` the input of the ``lm_head``, which gives the exact
    soft targets. Not given by the paper."""
    states_engine: Literal["transformers", "vllm"] = "transformers"
    """Library that runs the pass which computes the states: ``transformers`` for any layer and
    model; ``vllm`` is faster, but only for ``layers: [final_norm]`` and models that it can pool."""
    state_dtype: StateDType = "bfloat16"
    """Number format of the stored states. ``float8`` (e4m3 with a scale for each row) halves their
    size on disk."""
    parity_limit: NonNegativeFloat | None = None
    """Largest allowed mean difference, over a shard, between the options' log-probabilities in the
    engine and in the pass that computes the states. A single answer may differ by 20 times as much.
    Beyond either limit the shard fails. ``null`` chooses by dtype: 1e-3 in float32, 0.05 in half
    precision."""
    max_quarantined: Fraction = 0.05
    """Fraction of a shard's samples that may be quarantined (set aside with a reason) before the
    shard itself fails."""
    runtime: ShardRuntime = ShardRuntime()
    """How the stage is carried out."""
