"""Teacher signals on disk: a row per transcript, a row per answer, a state per answer.

Rows are joined by ``(sample_id, level)``, never by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sekd.data.questions import Question
from sekd.data.row_schema import column, row_of, schema_of, table_of
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ShardError
from sekd.io.faults import retry

ANSWERS, TRANSCRIPTS, STATES, STATE_ROWS = "answers", "transcripts", "states", "state_rows"
"""Roles of the files of a shard."""


def _int32_array(values: Sequence[int]) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def _float32_array(values: Sequence[float]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


@dataclass(frozen=True)
class StoredTranscript:
    """One transcript, a row of :data:`TRANSCRIPT_SCHEMA`.

    Attributes:
        transcript: its number in the sample, from 0. Where each level has a transcript of its own
            there are several. Those of replies to plain prompts come last and hold no answer.
        image: path of the sample's image.
        image_sha256: of the image file's bytes.
        token_ids: with one image placeholder.
        learned: per token, whether the model wrote it.
    """

    sample_id: str = column(pa.string())
    transcript: int = column(pa.int16())
    image: str = column(pa.string())
    image_sha256: str = column(pa.string())
    token_ids: tuple[int, ...] = column(pa.list_(pa.int32()), read=tuple)
    learned: tuple[bool, ...] = column(pa.list_(pa.bool_()), read=tuple)


@dataclass(frozen=True)
class TeacherAnswer:
    """One answer of the teacher, a row of :data:`ANSWER_SCHEMA`.

    Attributes:
        options: node ids, in the order shown.
        answer: node id of the hard label.
        transcript: number of the transcript that holds the answer.
        position: of the answer's letter in the transcript's token ids.
        letter_ids: a token id per option.
        option_logprobs: float32 [num_options], of the letters in the order shown, over the whole
            vocabulary.
        mean_logprobs: float32 [num_options], log of the mean probability over all orders asked.
        num_prompt_tokens: over all orders, images expanded.
        num_cached_tokens: the number of these that the engine took from its cache.
        truth: node id where the sample is labelled; the student is never trained on it.
    """

    sample_id: str = column(pa.string())
    level: int = column(pa.int16())
    rank: str = column(pa.string())
    options: tuple[str, ...] = column(pa.list_(pa.string()), read=tuple)
    answer: str = column(pa.string())
    transcript: int = column(pa.int16())
    position: int = column(pa.int32())
    letter_ids: tuple[int, ...] = column(pa.list_(pa.int32()), read=tuple)
    option_logprobs: NDArray[np.float32] = column(pa.list_(pa.float32()), read=_float32_array)
    mean_logprobs: NDArray[np.float32] = column(pa.list_(pa.float32()), read=_float32_array)
    num_prompt_tokens: int = column(pa.int32())
    num_cached_tokens: int = column(pa.int32())
    truth: str | None = column(pa.string(), nullable=True)

    @property
    def choice(self) -> int:
        """The index of the answer among the options."""
        return self.options.index(self.answer)

    @property
    def option_mass(self) -> float:
        """The probability of all options together, 0 to 1: it is low if letters are unlikely."""
        return float(np.exp(self.mean_logprobs.astype(np.float64)).sum())

    @property
    def confidence(self) -> float:
        """The probability of the answer among the options, 1 / num_options to 1."""
        logprobs = self.mean_logprobs.astype(np.float64)
        return float(np.exp(logprobs[self.choice] - np.logaddexp.reduce(logprobs)))

    def question(self, taxonomy: Taxonomy) -> Question:
        """Return the question that was asked."""
        truth = taxonomy[self.truth] if self.truth is not None else None
        return Question(self.level, tuple(taxonomy[node] for node in self.options), truth)


@dataclass(frozen=True)
class TeacherTranscript:
    """Token ids, with one image placeholder, and which of them the model wrote."""

    token_ids: tuple[int, ...]
    is_target: tuple[bool, ...]


@dataclass(frozen=True)
class TeacherSample:
    """One sample's dialogue: its transcripts and its answers, level by level."""

    sample_id: str
    image: str
    image_sha256: str
    transcripts: tuple[TeacherTranscript, ...]
    answers: tuple[TeacherAnswer, ...]


@dataclass(frozen=True)
class StateRow:
    """The state pass's record of one answer: a row of :data:`STATE_ROW_SCHEMA`.

    Attributes:
        row: of the tensors in the shard's safetensors file.
        option_logprobs: float32 [num_options], of the letters as the state pass computes them.
        top_ids: int32 [k], the most probable tokens, best first.
        top_logprobs: float32 [k], of these tokens.
    """

    sample_id: str = column(pa.string())
    level: int = column(pa.int16())
    row: int = column(pa.int32())
    option_logprobs: NDArray[np.float32] = column(pa.list_(pa.float32()), read=_float32_array)
    top_ids: NDArray[np.int32] = column(pa.list_(pa.int32()), read=_int32_array)
    top_logprobs: NDArray[np.float32] = column(pa.list_(pa.float32()), read=_float32_array)

    @property
    def tail_mass(self) -> float:
        """The probability of all tokens outside the top k."""
        return max(0.0, 1.0 - float(np.exp(self.top_logprobs.astype(np.float64)).sum()))


TRANSCRIPT_SCHEMA = schema_of(StoredTranscript)
ANSWER_SCHEMA = schema_of(
    TeacherAnswer,
    derived={"option_mass": pa.float32(), "confidence": pa.float32()},
    before="num_prompt_tokens",
)
STATE_ROW_SCHEMA = schema_of(StateRow, derived={"tail_mass": pa.float32()})


def write_samples(samples: Sequence[TeacherSample], folder: Path) -> dict[str, Path]:
    """Write ``transcripts.parquet`` and ``answers.parquet``; return role -> file."""
    transcripts = [
        StoredTranscript(
            sample_id=sample.sample_id,
            transcript=number,
            image=sample.image,
            image_sha256=sample.image_sha256,
            token_ids=transcript.token_ids,
            learned=transcript.is_target,
        )
        for sample in samples
        for number, transcript in enumerate(sample.transcripts)
    ]
    answers = [answer for sample in samples for answer in sample.answers]
    files = {TRANSCRIPTS: folder / "transcripts.parquet", ANSWERS: folder / "answers.parquet"}
    _write_rows(transcripts, TRANSCRIPT_SCHEMA, files[TRANSCRIPTS])
    _write_rows(answers, ANSWER_SCHEMA, files[ANSWERS])
    return files


def write_state_rows(rows: Sequence[StateRow], path: Path) -> None:
    """Write the index of a shard's state tensors."""
    _write_rows(rows, STATE_ROW_SCHEMA, path)


def read_state_rows(path: Path) -> Mapping[tuple[str, int], StateRow]:
    """Read the index of a shard's state tensors: (sample_id, level) -> row."""
    rows = [row_of(StateRow, cells) for cells in _read_table(path, STATE_ROW_SCHEMA).to_pylist()]
    return {(row.sample_id, row.level): row for row in rows}


def _write_rows(rows: Sequence[object], schema: pa.Schema, path: Path) -> None:
    pq.write_table(table_of(rows, schema), path, compression="zstd")


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    table: pa.Table = retry(partial(pq.read_table, path), path)
    if not table.schema.equals(schema):
        raise ShardError(f"{path}: its columns are not those of this version of sekd")
    return table


class TeacherShard(Sequence[TeacherSample]):
    """One shard's samples in stored order, read lazily from its two files.

    Raises:
        ShardError: if a file has other columns, or answers belong to no transcript.
    """

    def __init__(self, transcripts: Path, answers: Path) -> None:
        self._transcripts = _read_table(transcripts, TRANSCRIPT_SCHEMA)
        self._answers = _read_table(answers, ANSWER_SCHEMA)
        self._transcript_rows = _rows_by_sample(self._transcripts)
        self._answer_rows = _rows_by_sample(self._answers)
        self.sample_ids: list[str] = list(self._transcript_rows)
        without_transcript = self._answer_rows.keys() - self._transcript_rows.keys()
        if without_transcript:
            raise ShardError(
                f"{answers}: an answer of {min(without_transcript)!r}, which has no transcript"
            )

    def __len__(self) -> int:
        return len(self.sample_ids)

    @overload
    def __getitem__(self, index: int) -> TeacherSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[TeacherSample]: ...
    def __getitem__(self, index: int | slice) -> TeacherSample | list[TeacherSample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        sample_id = self.sample_ids[index]
        transcripts = [
            row_of(StoredTranscript, cells)
            for cells in _take_cells(self._transcripts, self._transcript_rows[sample_id])
        ]
        answers = [
            row_of(TeacherAnswer, cells)
            for cells in _take_cells(self._answers, self._answer_rows.get(sample_id, []))
        ]
        return TeacherSample(
            sample_id,
            transcripts[0].image,
            transcripts[0].image_sha256,
            tuple(
                TeacherTranscript(stored.token_ids, stored.learned)
                for stored in sorted(transcripts, key=lambda stored: stored.transcript)
            ),
            tuple(sorted(answers, key=lambda answer: answer.level)),
        )

    def lowest_confidence(self) -> dict[str, float]:
        """Return the confidence of each sample's least confident answer, by sample id."""
        return _per_sample(self._answers, "confidence", "min")

    def nodes(self, column: Literal["answer", "truth"]) -> dict[str, tuple[str | None, ...]]:
        """Return the answered, or the true, node of each level by sample id."""
        levels, nodes = self._answers["level"].to_pylist(), self._answers[column].to_pylist()
        return {
            sample_id: tuple(nodes[row] for row in sorted(rows, key=levels.__getitem__))
            for sample_id, rows in self._answer_rows.items()
        }

    def num_prompt_tokens(self) -> list[int]:
        """Return the length of each sample's longest prompt, images expanded, in stored order."""
        longest = _per_sample(self._answers, "num_prompt_tokens", "max")
        return [longest.get(sample_id, 0) for sample_id in self.sample_ids]

    def with_plain_replies(self) -> set[str]:
        """Return the ids of the samples that have a transcript without an answer."""
        last_transcript = _per_sample(self._transcripts, "transcript", "max")
        last_answered = _per_sample(self._answers, "transcript", "max")
        return {
            sample_id
            for sample_id, number in last_transcript.items()
            if number > last_answered.get(sample_id, -1)
        }

    def summary(self) -> dict[str, NDArray[Any]]:
        """Return, per answer, ``level``, ``is_labelled``, ``is_right`` and its measurements."""
        names = ("level", "confidence", "option_mass", "num_prompt_tokens", "num_cached_tokens")
        table, truth = self._answers, self._answers["truth"]
        is_right = pc.fill_null(pc.equal(table["answer"], truth), fill_value=False)
        columns: dict[str, NDArray[Any]] = {name: table[name].to_numpy() for name in names}
        columns["is_labelled"] = pc.is_valid(truth).to_numpy()
        columns["is_right"] = is_right.to_numpy()
        return columns


def _rows_by_sample(table: pa.Table) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, sample_id in enumerate(table["sample_id"].to_pylist()):
        rows.setdefault(sample_id, []).append(row)
    return rows


def _per_sample(table: pa.Table, name: str, extreme: Literal["min", "max"]) -> dict[str, Any]:
    """Return the least or the greatest value of a column among each sample's rows, by sample id."""
    grouped = table.group_by("sample_id").aggregate([(name, extreme)])
    ids, values = grouped["sample_id"].to_pylist(), grouped[f"{name}_{extreme}"].to_pylist()
    return dict(zip(ids, values, strict=True))


def _take_cells(table: pa.Table, rows: Sequence[int]) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = table.take(pa.array(rows, pa.int64())).to_pylist()
    return cells


def check_samples(samples: TeacherShard, sample_ids: Sequence[str], place: Path) -> None:
    """Check a reopened shard for everything that its readers rely on.

    Raises:
        ShardError: naming the sample and level, if ids are not those given, a letter is not where
            its position says, the answer is not the most probable option, or a number is not
            finite.
    """
    if samples.sample_ids != list(sample_ids):
        raise ShardError(f"{place}: holds other samples than were written")
    for sample in samples:
        above = 0
        for answer in sample.answers:
            where = f"{place}: sample {sample.sample_id}, level {answer.level}"
            # Levels with one option are not asked about, so there may be gaps.
            if answer.level <= above:
                raise ShardError(f"{where}: expected a level below level {above}")
            above = answer.level
            if answer.answer not in answer.options:
                raise ShardError(f"{where}: the answer {answer.answer!r} is not an option")
            if not 0 <= answer.transcript < len(sample.transcripts):
                raise ShardError(f"{where}: there is no transcript {answer.transcript}")
            token_ids = sample.transcripts[answer.transcript].token_ids
            is_inside = 0 <= answer.position < len(token_ids)
            if not is_inside or token_ids[answer.position] != answer.letter_ids[answer.choice]:
                raise ShardError(f"{where}: no letter of it at position {answer.position}")
            for values in (answer.option_logprobs, answer.mean_logprobs):
                if len(values) != len(answer.options) or not np.isfinite(values).all():
                    raise ShardError(f"{where}: a log-probability is missing or not finite")
            if int(answer.mean_logprobs.argmax()) != answer.choice:
                raise ShardError(f"{where}: the answer is not the most probable option")
        if not sample.answers:
            raise ShardError(f"{place}: sample {sample.sample_id} has no answer")
