"""Config section ``elicit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from sekd.config.base import (
    AnswerForm,
    Fraction,
    NonNegativeFloat,
    Positive,
    Section,
    StateDType,
)
from sekd.config.runtime import ShardRuntime


class PlainSpec(Section):
    """Prompts without a taxonomy, whose replies the student is not to forget; see
    ``distill.replay``. Not given by the paper."""

    prompts: tuple[str, ...] = ("Describe the image.",)
    """One of them is put to each image of the share; none for no plain prompts."""
    share: Fraction = 0.1
    """Of the images."""
    max_new_tokens: Positive = 64
    """Longest reply that is kept; a longer one is cut."""


class ElicitSpec(Section):
    """Stage one: the frozen teacher walks the taxonomy."""

    dataset: str = "train"
    """Name under ``data``."""
    engine: Literal["transformers", "vllm"] = "transformers"
    engine_args: dict[str, Any] = {}
    """Arguments of the engine that change its numbers, e.g. ``quantization``."""
    adapter: Path | None = None
    """Directory of a PEFT adapter that the teacher answers with, e.g. that of an earlier student;
    without one it is the model itself."""
    style: Literal["dialogue", "facts"] = "dialogue"
    """One growing dialogue, whose every turn reuses what was computed for the turns before; or the
    paper's literal form, a prompt per level with the facts known so far in its question."""
    answer: AnswerForm = "letter_and_name"
    """What stands as the teacher's word in the dialogue: "B" or "B. chordata". Not given by the
    paper."""
    permutations: Annotated[int, Field(ge=1, le=26)] = 1
    """Orders in which each question's options are shown: rotations, whose probabilities are
    averaged by node. Lowers the bias towards letters; not given by the paper."""
    plain: PlainSpec = PlainSpec()
    top_k: Annotated[int, Field(ge=1, le=1000)] = 20
    """Entries of the whole vocabulary kept per answer, beside the options."""
    layers: tuple[str, ...] = ("middle", "final_norm")
    """Decoder states to keep: ``block_<i>`` (output of block i, from 0), ``middle`` (the block half
    way up), ``final_norm`` (input of the ``lm_head``). Not given by the paper."""
    states_engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the state pass: hooks in transformers, for any layer and model; or vLLM, which is
    faster, for ``layers: [final_norm]`` alone and models that it can pool."""
    state_dtype: StateDType = "bfloat16"
    """How states are stored; ``float8`` is e4m3 with a scale for each row."""
    parity_limit: NonNegativeFloat | None = None
    """Largest mean difference, over a shard, between the options' log-probabilities in the engine
    and in the state pass, and a twentieth of the largest of one answer; beyond either the shard
    fails. Default by dtype: 1e-3 in float32, 0.05 in half precision."""
    max_quarantined: Fraction = 0.05
    """Share of a shard's samples that may be set aside before the shard itself fails."""
    runtime: ShardRuntime = ShardRuntime()
