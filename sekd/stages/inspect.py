"""Gather what a teacher's shards hold, of one sample or of a whole run, for a person to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from sekd.data.questions import LETTERS
from sekd.data.signals import (
    StateRow,
    TeacherAnswer,
    TeacherSample,
    TeacherShard,
    TeacherTranscript,
    read_state_rows,
)
from sekd.models.states import StateFile
from sekd.report.inspect.views import (
    LevelSummary,
    OptionView,
    RunView,
    SampleView,
    TopToken,
    TurnView,
)

Decode = Callable[[Sequence[int]], str]
_NUM_TOP = 5
"""Number of most probable tokens that a turn shows."""


class StateLookup:
    """Looks up the state row of an answer in a shard's two files of states."""

    def __init__(self, states: Path, rows: Path) -> None:
        self._file, self._rows = StateFile(states), read_state_rows(rows)

    def row(self, answer: TeacherAnswer) -> StateRow | None:
        """Return the state row of an answer, or ``None`` if it has none."""
        return self._rows.get((answer.sample_id, answer.level))

    def norms(self, row: StateRow) -> dict[str, float]:
        """Return layer -> length of the state."""
        return {
            layer: float(self._file.row(layer, row.row).float().norm())
            for layer in self._file.layers
        }


def view_sample(sample: TeacherSample, states: StateLookup | None, decode: Decode) -> SampleView:
    """Gather one sample.

    Args:
        states: ``None`` where the shard has no states yet.
        decode: turns token ids into text that shows special tokens.
    """
    texts: list[tuple[str, str]] = []
    for number, transcript in enumerate(sample.transcripts):
        positions = [answer.position for answer in sample.answers if answer.transcript == number]
        texts += _split_turns(transcript, positions, decode)
    turns = tuple(
        _view_turn(answer, prompt, reply, states, decode)
        for answer, (prompt, reply) in zip(sample.answers, texts, strict=True)
    )
    return SampleView(sample.sample_id, sample.image, turns)


def _split_turns(
    transcript: TeacherTranscript, positions: Sequence[int], decode: Decode
) -> Iterator[tuple[str, str]]:
    """Yield, for each answer, the text before it and the text that the model wrote."""
    token_ids, is_target = transcript.token_ids, transcript.is_target
    start = 0
    for position in positions:
        stop = position
        while stop < len(is_target) and is_target[stop]:
            stop += 1
        yield decode(token_ids[start:position]), decode(token_ids[position:stop])
        start = stop


def _view_turn(
    answer: TeacherAnswer,
    prompt: str,
    reply: str,
    states: StateLookup | None,
    decode: Decode,
) -> TurnView:
    row = None if states is None else states.row(answer)
    options = tuple(
        OptionView(
            letter,
            unquote(node.rpartition("/")[2]),
            math.exp(mean),
            math.exp(shown),
            node == answer.answer,
            node == answer.truth,
        )
        for letter, node, mean, shown in zip(
            LETTERS, answer.options, answer.mean_logprobs, answer.option_logprobs, strict=False
        )
    )
    top: list[tuple[int, float]] = []
    if row is not None:
        top = list(zip(row.top_ids.tolist(), row.top_logprobs.tolist(), strict=True))
    return TurnView(
        level=answer.level,
        rank=answer.rank,
        heard=prompt,
        said=reply,
        options=options,
        option_mass=answer.option_mass,
        confidence=answer.confidence,
        num_prompt_tokens=answer.num_prompt_tokens,
        num_cached_tokens=answer.num_cached_tokens,
        top=tuple(
            TopToken(decode([token_id]), math.exp(logprob)) for token_id, logprob in top[:_NUM_TOP]
        ),
        tail_mass=row.tail_mass if row else None,
        norms=states.norms(row) if states and row else {},
        parity=float(np.abs(answer.option_logprobs - row.option_logprobs).max()) if row else None,
    )


def view_run(directory: str, shards: Sequence[TeacherShard], num_least: int) -> RunView:
    """Summarize the shards of a run that are done.

    Args:
        num_least: number of samples to name, the least confident first.
    """
    confidences: dict[str, float] = {}
    for shard in shards:
        confidences |= shard.lowest_confidence()
    summaries = [shard.summary() for shard in shards]
    columns = {
        name: np.concatenate([summary[name] for summary in summaries]) for name in summaries[0]
    }
    levels = []
    for level in np.unique(columns["level"]).tolist():
        is_at_level = columns["level"] == level
        rows = {name: column[is_at_level] for name, column in columns.items()}
        levels.append(_summarize_level(level, rows))
    least = sorted(confidences, key=confidences.__getitem__)[:num_least]
    return RunView(directory, len(confidences), tuple(levels), tuple(least))


def _summarize_level(level: int, columns: Mapping[str, NDArray[Any]]) -> LevelSummary:
    """Summarize the answers of one level.

    Args:
        columns: of :meth:`~sekd.data.signals.TeacherShard.summary`, this level's rows alone.
    """
    num_labelled = int(columns["is_labelled"].sum())
    num_right = columns["is_right"].sum()
    return LevelSummary(
        level=level,
        num_answers=len(columns["level"]),
        accuracy=float(num_right / num_labelled) if num_labelled else None,
        confidence=float(columns["confidence"].mean()),
        option_mass=float(columns["option_mass"].mean()),
        num_prompt_tokens=float(columns["num_prompt_tokens"].mean()),
        num_cached_tokens=float(columns["num_cached_tokens"].mean()),
    )
