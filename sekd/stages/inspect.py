"""What a teacher's shards say of one sample, gathered for a person to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np

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


class States:
    """The state files of a shard, for looking rows up."""

    def __init__(self, states: Path, rows: Path) -> None:
        self._file, self._rows = StateFile(states), read_state_rows(rows)

    def of(self, answer: TeacherAnswer) -> tuple[StateRow, dict[str, float]] | None:
        """The row of an answer and its states' norms; ``None`` if it has none."""
        row = self._rows.get((answer.sample_id, answer.level))
        if row is None:
            return None
        norms = {
            layer: float(self._file.row(layer, row.row).float().norm())
            for layer in self._file.layers
        }
        return row, norms


def view_sample(sample: TeacherSample, states: States | None, decode: Decode) -> SampleView:
    """Gather one sample.

    Args:
        decode: token ids to text, special tokens shown.
    """
    texts = [
        text
        for number, transcript in enumerate(sample.transcripts)
        for text in _texts(
            transcript, [a.position for a in sample.answers if a.transcript == number], decode
        )
    ]
    turns = tuple(
        _turn(answer, heard, said, states.of(answer) if states else None, decode)
        for answer, (heard, said) in zip(sample.answers, texts, strict=True)
    )
    return SampleView(sample.sample_id, sample.image, turns)


def _texts(
    transcript: TeacherTranscript, positions: Sequence[int], decode: Decode
) -> Iterator[tuple[str, str]]:
    """What stands before each answer, and what the model wrote from it on."""
    start = 0
    for position in positions:
        stop = position
        while stop < len(transcript.is_target) and transcript.is_target[stop]:
            stop += 1
        ids = transcript.token_ids
        yield decode(ids[start:position]), decode(ids[position:stop])
        start = stop


def _turn(
    answer: TeacherAnswer,
    heard: str,
    said: str,
    kept: tuple[StateRow, dict[str, float]] | None,
    decode: Decode,
) -> TurnView:
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
    row, norms = kept if kept else (None, {})
    top = zip(row.top_ids.tolist(), row.top_logprobs.tolist(), strict=True) if row else ()
    return TurnView(
        level=answer.level,
        rank=answer.rank,
        heard=heard,
        said=said,
        options=options,
        option_mass=answer.option_mass,
        confidence=answer.confidence,
        num_prompt_tokens=answer.num_prompt_tokens,
        num_cached_tokens=answer.num_cached_tokens,
        top=tuple(TopToken(decode([i]), math.exp(p)) for i, p in top)[:_NUM_TOP],
        tail_mass=row.tail_mass if row else None,
        norms=norms,
        parity=float(np.abs(answer.option_logprobs - row.option_logprobs).max()) if row else None,
    )


def view_run(directory: str, shards: Sequence[TeacherShard], num_least: int) -> RunView:
    """Sum a run up, over the shards that are done."""
    confidences: dict[str, float] = {}
    for shard in shards:
        confidences |= shard.lowest_confidence()
    columns = [shard.summary() for shard in shards]
    level, right, labelled, confidence, mass, prompt, cached = (
        np.concatenate([part[name] for part in columns])
        for name in (
            *("level", "is_right", "is_labelled", "confidence", "option_mass"),
            *("num_prompt_tokens", "num_cached_tokens"),
        )
    )
    levels = []
    for number in np.unique(level).tolist():
        here = level == number
        num_labelled = int(labelled[here].sum())
        levels.append(
            LevelSummary(
                level=number,
                num_answers=int(here.sum()),
                accuracy=float(right[here].sum() / num_labelled) if num_labelled else None,
                confidence=float(confidence[here].mean()),
                option_mass=float(mass[here].mean()),
                num_prompt_tokens=float(prompt[here].mean()),
                num_cached_tokens=float(cached[here].mean()),
            )
        )
    least = sorted(confidences, key=confidences.__getitem__)[:num_least]
    return RunView(directory, len(confidences), tuple(levels), tuple(least))
