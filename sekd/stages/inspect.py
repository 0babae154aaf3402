"""Gather what a teacher's shards hold, of one sample or of a whole run, for a person to read."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from sekd.config import ModelSpec
from sekd.data.questions import LETTERS
from sekd.data.signals import (
    ANSWERS,
    STATE_ROWS,
    STATES,
    TRANSCRIPTS,
    StateRow,
    TeacherAnswer,
    TeacherSample,
    TeacherShard,
    TeacherTranscript,
    read_state_rows,
)
from sekd.errors import ConfigError
from sekd.io.hashing import digest
from sekd.io.locations import Location
from sekd.models.loading import load_processor
from sekd.models.states import StateFile
from sekd.pipeline.manifest import find_done_files, find_done_keys
from sekd.pipeline.stage import newest_first
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


class TeacherAnswers:
    """The newest answers of a run, and the states that belong to them.

    Only shards that are done are read; the run need not be finished.

    Raises:
        ConfigError: if the run has no shard of answers that is done.
    """

    def __init__(self, run: Location) -> None:
        started = (
            (directory, fields, find_done_files(directory, TRANSCRIPTS, ANSWERS))
            for directory, fields in newest_first(run / "answers")
        )
        newest = next((each for each in started if each[2]), None)
        if newest is None:
            raise ConfigError(f"{run}: no shard of answers is done; run sekd elicit first")
        self._directory, self._fields, self._answers = newest
        self._states = self._find_states(run)
        self._decode: Decode | None = None

    def _find_states(self, run: Location) -> Mapping[int, Sequence[Path]]:
        """Return shard -> its two files of states."""
        stage = digest(self._fields)
        for directory, fields in newest_first(run / "states"):
            if fields["answers"] == stage:
                files = find_done_files(directory, STATES, STATE_ROWS)
                states = {key: shard for shard, (key, _) in find_done_keys(directory).items()}
                keys = find_done_keys(self._directory)
                return {
                    shard: files[states[key]] for shard, (_, key) in keys.items() if key in states
                }
        return {}

    def overview(self, num_least: int = 10) -> RunView:
        """Summarize all levels.

        Args:
            num_least: number of samples to name, the least confident first.
        """
        shards = [TeacherShard(*files) for files in self._answers.values()]
        return view_run(str(self._directory), shards, num_least)

    def sample(self, sample_id: str) -> SampleView:
        """Show one sample. The first call loads the model's tokenizer.

        Raises:
            ConfigError: if the sample is not among those that are done.
        """
        known: list[str] = []
        for index, files in self._answers.items():
            shard = TeacherShard(*files)
            if sample_id in shard.sample_ids:
                states = StateLookup(*self._states[index]) if index in self._states else None
                sample = shard[shard.sample_ids.index(sample_id)]
                return view_sample(sample, states, self._decoder())
            known += shard.sample_ids
        near = difflib.get_close_matches(sample_id, known, n=1, cutoff=0.0)
        raise ConfigError(
            f"no sample {sample_id!r} among the {len(known)} that are done; did you mean {near[0]}?"
        )

    def _decoder(self) -> Decode:
        """Return the decoding of the model's tokenizer, with special tokens shown."""
        if self._decode is None:
            spec = ModelSpec.model_validate_json(json.dumps(self._fields["spec"]["model"]))
            tokenizer = load_processor(spec).tokenizer
            self._decode = lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
        return self._decode
