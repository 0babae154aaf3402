"""Teacher signals on disk: a row per transcript, a row per answer, a state per answer.

Rows are joined by ``(sample_id, level)``, never by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
        _required("transcript", pa.int16()),  # from 0; several where each level has its own, and
        # last those of replies to plain prompts, which hold no answer
        _required("image", pa.string()),
        _required("image_sha256", pa.string()),
        _required("token_ids", pa.list_(pa.int32())),  # with one image placeholder
        _required("learned", pa.list_(pa.bool_())),  # per token: written by the model
    ]
)
ANSWER_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("level", pa.int16()),
        _required("rank", pa.string()),
        _required("options", pa.list_(pa.string())),  # node ids, in the order shown
        _required("answer", pa.string()),  # node id: the hard label
        _required("transcript", pa.int16()),  # that holds the answer
        _required("position", pa.int32()),  # of the letter in its token_ids
        _required("letter_ids", pa.list_(pa.int32())),  # token per option
        _required("option_logprobs", pa.list_(pa.float32())),  # over the whole vocabulary
        _required("mean_logprobs", pa.list_(pa.float32())),  # over all orders of the options
        _required("option_mass", pa.float32()),  # probability of all options together
        _required("confidence", pa.float32()),  # of the answer among the options
        _required("num_prompt_tokens", pa.int32()),  # over all orders, images expanded
        _required("num_cached_tokens", pa.int32()),
        pa.field("truth", pa.string()),  # node id where the sample is labelled; never trained on
    ]
)
STATE_ROW_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("level", pa.int16()),
        _required("row", pa.int32()),  # of the tensors in the shard's safetensors file
        _required("option_logprobs", pa.list_(pa.float32())),  # as the state pass sees them
        _required("top_ids", pa.list_(pa.int32())),
        _required("top_logprobs", pa.list_(pa.float32())),
        _required("tail_mass", pa.float32()),  # probability outside the top k
    ]
)


@dataclass(frozen=True)
class TeacherAnswer:
    """One answer of the teacher, as :data:`ANSWER_SCHEMA` stores it.

    Attributes:
        option_logprobs, mean_logprobs: float32 [num_options].
    """

    sample_id: str
    level: int
    rank: str
    options: tuple[str, ...]
    answer: str
    transcript: int
    position: int
    letter_ids: tuple[int, ...]
    option_logprobs: NDArray[np.float32]
    mean_logprobs: NDArray[np.float32]
    num_prompt_tokens: int
    num_cached_tokens: int
    truth: str | None

    @property
    def choice(self) -> int:
        """Index of the answer among the options."""
        return self.options.index(self.answer)

    @property
    def option_mass(self) -> float:
        """Probability of all options together, 0 to 1: how much the teacher answers in letters."""
        return float(np.exp(self.mean_logprobs.astype(np.float64)).sum())

    @property
    def confidence(self) -> float:
        """Probability of the answer among the options, 1 / num_options to 1."""
        logprobs = self.mean_logprobs.astype(np.float64)
        return float(np.exp(logprobs[self.choice] - np.logaddexp.reduce(logprobs)))

    def question(self, taxonomy: Taxonomy) -> Question:
        """The question as it was put."""
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


def write_samples(samples: Sequence[TeacherSample], folder: Path) -> dict[str, Path]:
    """Write ``transcripts.parquet`` and ``answers.parquet``; returns role -> file."""
    transcripts = [
        {
            "sample_id": sample.sample_id,
            "transcript": number,
            "image": sample.image,
            "image_sha256": sample.image_sha256,
            "token_ids": transcript.token_ids,
            "learned": transcript.is_target,
        }
        for sample in samples
        for number, transcript in enumerate(sample.transcripts)
    ]
    answers = [
        {name: getattr(answer, name) for name in ANSWER_SCHEMA.names}
        for sample in samples
        for answer in sample.answers
    ]
    files = {TRANSCRIPTS: folder / "transcripts.parquet", ANSWERS: folder / "answers.parquet"}
    _write(transcripts, TRANSCRIPT_SCHEMA, files[TRANSCRIPTS])
    _write(answers, ANSWER_SCHEMA, files[ANSWERS])
    return files


class TeacherShard(Sequence[TeacherSample]):
    """One shard's samples in stored order, read lazily from its two files.

    Raises:
        ShardError: if a file has other columns, or answers belong to no transcript.
    """

    def __init__(self, transcripts: Path, answers: Path) -> None:
        self._transcripts = _read(transcripts, TRANSCRIPT_SCHEMA)
        self._answers = _read(answers, ANSWER_SCHEMA)
        self._transcript_rows = _rows_by_sample(self._transcripts)
        self._answer_rows = _rows_by_sample(self._answers)
        self.sample_ids: list[str] = list(self._transcript_rows)
        strangers = self._answer_rows.keys() - self._transcript_rows.keys()
        if strangers:
            raise ShardError(f"{answers}: an answer of {min(strangers)!r}, which has no transcript")

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
        transcripts = _taken(self._transcripts, self._transcript_rows[sample_id])
        answers = _taken(self._answers, self._answer_rows.get(sample_id, []))
        return TeacherSample(
            sample_id,
            transcripts[0]["image"],
            transcripts[0]["image_sha256"],
            tuple(
                TeacherTranscript(tuple(row["token_ids"]), tuple(row["learned"]))
                for row in sorted(transcripts, key=lambda row: row["transcript"])
            ),
            tuple(sorted(map(_to_answer, answers), key=lambda answer: answer.level)),
        )

    def lowest_confidence(self) -> dict[str, float]:
        """Of each sample, the confidence of its least confident answer."""
        return _per_sample(self._answers, "confidence", "min")

    def num_prompt_tokens(self) -> list[int]:
        """Of each sample, the longest prompt of its answers, images expanded."""
        longest = _per_sample(self._answers, "num_prompt_tokens", "max")
        return [longest.get(sample_id, 0) for sample_id in self.sample_ids]

    def with_plain_replies(self) -> set[str]:
        """Ids of the samples that have a transcript without an answer: those come last."""
        last = _per_sample(self._transcripts, "transcript", "max")
        answered = _per_sample(self._answers, "transcript", "max")
        return {
            sample_id for sample_id, number in last.items() if number > answered.get(sample_id, -1)
        }

    def summary(self) -> dict[str, NDArray[Any]]:
        """Per answer: ``level``, ``is_labelled``, ``is_right``, and the columns of its figures."""
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


def _per_sample(table: pa.Table, column: str, what: Literal["min", "max"]) -> dict[str, Any]:
    """The least or greatest value of a column among each sample's rows."""
    grouped = table.group_by("sample_id").aggregate([(column, what)])
    columns = (grouped["sample_id"].to_pylist(), grouped[f"{column}_{what}"].to_pylist())
    return dict(zip(*columns, strict=True))


def _taken(table: pa.Table, rows: Sequence[int]) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = table.take(pa.array(rows, pa.int64())).to_pylist()
    return taken


def _to_answer(row: dict[str, Any]) -> TeacherAnswer:
    del row["option_mass"], row["confidence"]
    return TeacherAnswer(
        **row
        | {
            "options": tuple(row["options"]),
            "letter_ids": tuple(row["letter_ids"]),
            "option_logprobs": np.array(row["option_logprobs"], dtype=np.float32),
            "mean_logprobs": np.array(row["mean_logprobs"], dtype=np.float32),
        }
    )


def _write(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path, compression="zstd")


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


@dataclass(frozen=True)
class StateRow:
    """What the state pass keeps of one answer, as :data:`STATE_ROW_SCHEMA` stores it.

    Attributes:
        row: of the tensors in the shard's safetensors file.
        option_logprobs: float32 [num_options].
        top_ids, top_logprobs: int32 and float32 [k], most probable tokens, best first.
    """

    sample_id: str
    level: int
    row: int
    option_logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]

    @property
    def tail_mass(self) -> float:
        """Probability outside the top k."""
        return max(0.0, 1.0 - float(np.exp(self.top_logprobs.astype(np.float64)).sum()))


def write_state_rows(rows: Sequence[StateRow], path: Path) -> None:
    """Write the index of a shard's state tensors."""
    names = STATE_ROW_SCHEMA.names
    table = [{name: getattr(row, name) for name in names} for row in rows]
    _write(table, STATE_ROW_SCHEMA, path)


def read_state_rows(path: Path) -> Mapping[tuple[str, int], StateRow]:
    """(sample_id, level) -> its row."""
    return {
        (row["sample_id"], row["level"]): StateRow(
            row["sample_id"],
            row["level"],
            row["row"],
            np.array(row["option_logprobs"], dtype=np.float32),
            np.array(row["top_ids"], dtype=np.int32),
            np.array(row["top_logprobs"], dtype=np.float32),
        )
        for row in _read(path, STATE_ROW_SCHEMA).to_pylist()
    }
