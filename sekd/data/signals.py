"""Teacher signals on disk: one row per sample, one row per answer, one state per answer.

Rows are joined by ``(sample_id, level)``, never by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sekd.data.questions import Question
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ShardError

ANSWERS, TRANSCRIPTS, STATES, STATE_ROWS = "answers", "transcripts", "states", "state_rows"
"""Roles of the files of a shard."""


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


TRANSCRIPT_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("image", pa.string()),
        _required("image_sha256", pa.string()),
        _required("token_ids", pa.list_(pa.int32())),  # with one image placeholder
        _required("learned", pa.list_(pa.bool_())),  # per token: written by the model
        _required("num_prompt_tokens", pa.int64()),  # over all levels, images expanded
        _required("num_cached_tokens", pa.int64()),
    ]
)
ANSWER_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("level", pa.int16()),
        _required("rank", pa.string()),
        _required("options", pa.list_(pa.string())),  # node ids, in the order shown
        _required("answer", pa.string()),  # node id: the hard label
        _required("position", pa.int32()),  # of the letter in token_ids
        _required("letter_ids", pa.list_(pa.int32())),  # token per option
        _required("option_logprobs", pa.list_(pa.float32())),  # over the whole vocabulary
        _required("top_ids", pa.list_(pa.int32())),
        _required("top_logprobs", pa.list_(pa.float32())),
        _required("tail_mass", pa.float32()),  # probability outside the top k
        pa.field("truth", pa.string()),  # node id where the sample is labelled; never trained on
    ]
)
STATE_ROW_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("level", pa.int16()),
        _required("row", pa.int32()),  # of the tensors in the shard's safetensors file
        _required("option_logprobs", pa.list_(pa.float32())),  # as the state pass sees them
    ]
)


@dataclass(frozen=True)
class TeacherAnswer:
    """One answer of the teacher, as :data:`ANSWER_SCHEMA` stores it.

    Attributes:
        option_logprobs: float32 [num_options].
        top_ids, top_logprobs: int32 and float32 [k].
    """

    sample_id: str
    level: int
    rank: str
    options: tuple[str, ...]
    answer: str
    position: int
    letter_ids: tuple[int, ...]
    option_logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]
    truth: str | None

    @property
    def choice(self) -> int:
        """Index of the answer among the options."""
        return self.options.index(self.answer)

    def question(self, taxonomy: Taxonomy) -> Question:
        """The question as it was put."""
        truth = taxonomy[self.truth] if self.truth is not None else None
        return Question(self.level, tuple(taxonomy[node] for node in self.options), truth)


@dataclass(frozen=True)
class TeacherSample:
    """One sample's dialogue: its transcript and its answers, level by level."""

    sample_id: str
    image: str
    image_sha256: str
    token_ids: tuple[int, ...]
    learned: tuple[bool, ...]
    num_prompt_tokens: int
    num_cached_tokens: int
    answers: tuple[TeacherAnswer, ...]


def write_samples(samples: Sequence[TeacherSample], folder: Path) -> dict[str, Path]:
    """Write ``transcripts.parquet`` and ``answers.parquet``; returns role -> file."""
    transcripts, answers = [], []
    for sample in samples:
        row = {name: getattr(sample, name) for name in TRANSCRIPT_SCHEMA.names}
        transcripts.append(row)
        for answer in sample.answers:
            tail_mass = max(0.0, 1.0 - float(np.exp(answer.top_logprobs.astype(np.float64)).sum()))
            row = {
                name: getattr(answer, name) for name in ANSWER_SCHEMA.names if name != "tail_mass"
            }
            answers.append(row | {"tail_mass": tail_mass})
    files = {TRANSCRIPTS: folder / "transcripts.parquet", ANSWERS: folder / "answers.parquet"}
    pq.write_table(pa.Table.from_pylist(transcripts, TRANSCRIPT_SCHEMA), files[TRANSCRIPTS])
    pq.write_table(pa.Table.from_pylist(answers, ANSWER_SCHEMA), files[ANSWERS])
    return files


class TeacherShard(Sequence[TeacherSample]):
    """One shard's samples in stored order, read lazily from its two files.

    Raises:
        ShardError: if a file has other columns, or answers belong to no transcript.
    """

    def __init__(self, transcripts: Path, answers: Path) -> None:
        self._transcripts = _read(transcripts, TRANSCRIPT_SCHEMA)
        self._answers = _read(answers, ANSWER_SCHEMA)
        self.sample_ids: list[str] = self._transcripts["sample_id"].to_pylist()
        self._answer_rows: dict[str, list[int]] = {sample_id: [] for sample_id in self.sample_ids}
        for row, sample_id in enumerate(self._answers["sample_id"].to_pylist()):
            if sample_id not in self._answer_rows:
                raise ShardError(f"{answers}: an answer of {sample_id!r}, which has no transcript")
            self._answer_rows[sample_id].append(row)

    def __len__(self) -> int:
        return len(self.sample_ids)

    @overload
    def __getitem__(self, index: int) -> TeacherSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[TeacherSample]: ...
    def __getitem__(self, index: int | slice) -> TeacherSample | list[TeacherSample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        (row,) = self._transcripts.slice(range(len(self))[index], 1).to_pylist()
        answer_rows = pa.array(self._answer_rows[row["sample_id"]], pa.int64())
        answers = self._answers.take(answer_rows).to_pylist()
        row |= {"token_ids": tuple(row["token_ids"]), "learned": tuple(row["learned"])}
        by_level = sorted(map(_to_answer, answers), key=lambda answer: answer.level)
        return TeacherSample(**row, answers=tuple(by_level))


def _to_answer(row: dict[str, Any]) -> TeacherAnswer:
    row.pop("tail_mass")
    return TeacherAnswer(
        **row
        | {
            "options": tuple(row["options"]),
            "letter_ids": tuple(row["letter_ids"]),
            "option_logprobs": np.array(row["option_logprobs"], dtype=np.float32),
            "top_ids": np.array(row["top_ids"], dtype=np.int32),
            "top_logprobs": np.array(row["top_logprobs"], dtype=np.float32),
        }
    )


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    table = pq.read_table(path)
    if not table.schema.equals(schema):
        raise ShardError(f"{path}: its columns are not those of this version of sekd")
    return table


def check_samples(samples: TeacherShard, sample_ids: Sequence[str], place: Path) -> None:
    """Hold a reopened shard to what every reader relies on.

    Raises:
        ShardError: naming the sample and level, if ids are not those given, a letter is not where
            its position says, the answer is not the most probable option, or a number is not
            finite.
    """
    if samples.sample_ids != list(sample_ids):
        raise ShardError(f"{place}: holds other samples than were written")
    for sample in samples:
        for number, answer in enumerate(sample.answers, start=1):
            where = f"{place}: sample {sample.sample_id}, level {answer.level}"
            if answer.level != number:
                raise ShardError(f"{where}: expected level {number}")
            if answer.answer not in answer.options:
                raise ShardError(f"{where}: the answer {answer.answer!r} is not an option")
            letter = answer.letter_ids[answer.choice]
            is_inside = 0 <= answer.position < len(sample.token_ids)
            if not is_inside or sample.token_ids[answer.position] != letter:
                raise ShardError(f"{where}: no letter of it at position {answer.position}")
            for values in (answer.option_logprobs, answer.top_logprobs):
                if not np.isfinite(values).all():
                    raise ShardError(f"{where}: a log-probability is not finite")
            if int(answer.option_logprobs.argmax()) != answer.choice:
                raise ShardError(f"{where}: the answer is not the most probable option")
        if not sample.answers:
            raise ShardError(f"{place}: sample {sample.sample_id} has no answer")


@dataclass(frozen=True)
class StateRow:
    """Where the states of one answer are, as :data:`STATE_ROW_SCHEMA` stores it."""

    sample_id: str
    level: int
    row: int
    option_logprobs: Sequence[float]


def write_state_rows(rows: Sequence[StateRow], path: Path) -> None:
    """Write the index of a shard's state tensors."""
    names = STATE_ROW_SCHEMA.names
    table = [{name: getattr(row, name) for name in names} for row in rows]
    pq.write_table(pa.Table.from_pylist(table, STATE_ROW_SCHEMA), path)


def read_state_rows(path: Path) -> Mapping[tuple[str, int], int]:
    """(sample_id, level) -> row of the tensors in the shard's safetensors file."""
    rows = _read(path, STATE_ROW_SCHEMA).to_pylist()
    return {(row["sample_id"], row["level"]): row["row"] for row in rows}
