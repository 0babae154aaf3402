"""Training sequences from the teacher's shards, with every supervised token accounted for."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sekd.data.questions import Question
from sekd.data.samples import read_unchanged
from sekd.data.signals import StateRow, TeacherAnswer, TeacherSample, TeacherShard, read_state_rows
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError, FatalError
from sekd.stages.batches import Batcher
from sekd.stages.chat import Chat, Transcript
from sekd.stages.elicit.storage import StateFile

logger = logging.getLogger(__name__)

# Shapes: B batch, N learned tokens over the batch, M answer letters among them, K top-k entries,
# D hidden size.


@dataclass(frozen=True)
class ShardFiles:
    """The four files of one shard."""

    transcripts: Path
    answers: Path
    states: Path
    state_rows: Path


@dataclass(frozen=True)
class Lesson:
    """One sequence to learn, with the teacher's signals at its letters.

    Attributes:
        transcript: the joint prompt with the teacher's answers, or one of the teacher's own.
        answers: the teacher's, whose letters stand in the transcript.
        letter_ids: per answer, the token of each option's letter in this transcript, options in
            the order that the teacher saw.
        rows: per answer, what the state pass saw.
        states: layer name -> teacher states [answers, D].
    """

    sample: TeacherSample
    transcript: Transcript
    answers: tuple[TeacherAnswer, ...]
    letter_ids: tuple[tuple[int, ...], ...]
    rows: tuple[StateRow, ...]
    states: dict[str, Tensor]


class Lessons(Dataset[Lesson]):
    """Every sample's joint prompt, and for a share of the sequences a replayed dialogue.

    Args:
        replay: share of all sequences that are replayed dialogues; 0 for none.
        min_confidence: samples with a less confident answer of the teacher's are left out.
        seed: of the choice of samples to replay and of the order of options.

    Raises:
        ConfigError: if the teacher is not that confident of any sample.
    """

    def __init__(
        self,
        shards: Sequence[ShardFiles],
        taxonomy: Taxonomy,
        chat: Chat,
        *,
        replay: float,
        min_confidence: float = 0.0,
        seed: int,
    ) -> None:
        self._taxonomy = taxonomy
        self._chat = chat
        self._seed, self._epoch = seed, 0
        self._samples = [TeacherShard(shard.transcripts, shard.answers) for shard in shards]
        self._rows = [read_state_rows(shard.state_rows) for shard in shards]
        self._states = [StateFile(shard.states) for shard in shards]
        places = self._usable(min_confidence)
        rng = random.Random(seed)
        num_replayed = round(len(places) * replay / (1 - replay)) if replay < 1 else len(places)
        replayed = [places[rng.randrange(len(places))] for _ in range(num_replayed)]
        joint = [(place, False) for place in places] if replay < 1 else []
        self._items = joint + [(place, True) for place in replayed]

    def _usable(self, min_confidence: float) -> list[tuple[int, int]]:
        """Shard and place of the samples that have states and a confident teacher."""
        places, best = [], 0.0
        for number, (shard, rows) in enumerate(zip(self._samples, self._rows, strict=True)):
            with_states = {sample_id for sample_id, _ in rows}
            lowest = shard.lowest_confidence()
            best = max([best, *lowest.values()])
            places += [
                (number, place)
                for place, sample_id in enumerate(shard.sample_ids)
                if sample_id in with_states and lowest[sample_id] >= min_confidence
            ]
        if not places:
            raise ConfigError(
                f"distill.min_confidence: {min_confidence:g} leaves no sample; the best has "
                f"{best:.3g} at its least confident level"
            )
        if min_confidence:
            num_samples = sum(len(shard) for shard in self._samples)
            logger.info("the teacher is confident of %d of %d samples", len(places), num_samples)
        return places

    @property
    def layers(self) -> list[str]:
        """Names of the stored layers."""
        return self._states[0].layers

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Lesson:
        (shard, place), is_replay = self._items[index]
        sample = self._samples[shard][place]
        answers = sample.answers
        if is_replay:
            number = random.Random(f"{self._seed}:{index}").randrange(len(sample.transcripts))
            answers = tuple(each for each in answers if each.transcript == number)
            transcript = Transcript(
                sample.transcripts[number].token_ids,
                tuple(answer.position for answer in answers),
                sample.transcripts[number].learned,
            )
            letter_ids = tuple(answer.letter_ids for answer in answers)
        else:
            transcript, letter_ids = self._joint(sample)
        _check_letters(sample, answers, transcript, letter_ids)
        rows = tuple(self._rows[shard][sample.sample_id, answer.level] for answer in answers)
        file = self._states[shard]
        states = {
            layer: torch.stack([file.row(layer, row.row) for row in rows]) for layer in file.layers
        }
        return Lesson(sample, transcript, answers, letter_ids, rows, states)

    def set_epoch(self, epoch: int) -> None:
        """Options are shown in another order in each epoch."""
        self._epoch = epoch

    def _joint(self, sample: TeacherSample) -> tuple[Transcript, tuple[tuple[int, ...], ...]]:
        """The joint prompt with its options shuffled, and letters in the *teacher's* option order.

        With options in one order for good, a student learns by heart which letters belong to an
        image, and fails on the next one.
        """
        rng = random.Random(f"{self._seed}:{self._epoch}:{sample.sample_id}")
        questions, choices, letter_ids = [], [], []
        for answer in sample.answers:
            asked = answer.question(self._taxonomy)
            order = rng.sample(range(len(asked.options)), len(asked.options))
            options = tuple(asked.options[old] for old in order)
            question = Question(asked.level, options, asked.truth)
            questions.append(question)
            choices.append(order.index(answer.choice))
            letters = self._chat.joint_letter_ids(question)
            letter_ids.append(tuple(letters[order.index(old)] for old in range(len(order))))
        transcript = self._chat.joint_transcript(questions, choices, self._taxonomy.root)
        return transcript, tuple(letter_ids)


def _check_letters(
    sample: TeacherSample,
    answers: Sequence[TeacherAnswer],
    transcript: Transcript,
    letter_ids: Sequence[Sequence[int]],
) -> None:
    """Alignment by token ids: each answer's letter is where the map says.

    Raises:
        FatalError: naming the sample and level.
    """
    for answer, position, ids in zip(answers, transcript.positions, letter_ids, strict=True):
        if transcript.token_ids[position] != ids[answer.choice]:
            raise FatalError(
                f"sample {sample.sample_id}, level {answer.level}: token {position} is "
                f"{transcript.token_ids[position]}, not the letter {ids[answer.choice]}"
            )


@dataclass(frozen=True)
class Supervision:
    """What a batch is to learn and where.

    Attributes:
        rows_N, positions_N: of the state that predicts each learned token.
        targets_N: the learned tokens.
        weights_N: 1 / (learned tokens of its kind in its sequence) / B, so that sums over a batch
            are means over sequences of means over tokens.
        is_letter_N: whether the token is an answer's letter; M of them.
        teacher_targets_M: the letter that the teacher wrote for the same node.
        student_letters_ML, teacher_letters_ML: token of each option's letter here and in the
            teacher's dialogue, one column per option, the first letter's again beyond the options.
        teacher_logprobs_ML: of those, the mean over all orders of the options, padded likewise.
        top_ids_MK, top_logprobs_MK: the teacher's top k at the letters.
        states: layer name -> the teacher's states [M, D] at the letters.
    """

    rows_N: Tensor
    positions_N: Tensor
    targets_N: Tensor
    weights_N: Tensor
    is_letter_N: Tensor
    teacher_targets_M: Tensor
    student_letters_ML: Tensor
    teacher_letters_ML: Tensor
    teacher_logprobs_ML: Tensor
    top_ids_MK: Tensor
    top_logprobs_MK: Tensor
    states: dict[str, Tensor]


class Collator:
    """Lessons into model inputs and their :class:`Supervision`."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def __call__(self, lessons: Sequence[Lesson]) -> dict[str, object]:
        """``{"inputs": ..., "supervision": ..., "sample_ids": ...}``.

        Raises:
            SampleError: if an image is not the one that the teacher saw.
        """
        batch = self._batcher(
            [lesson.transcript.token_ids for lesson in lessons],
            [
                read_unchanged(Path(lesson.sample.image), lesson.sample.image_sha256)
                for lesson in lessons
            ],
            [lesson.sample.image_sha256 for lesson in lessons],
        )
        rows, positions, targets, weights, is_letter = [], [], [], [], []
        for row, lesson in enumerate(lessons):
            transcript, letters = lesson.transcript, set(lesson.transcript.positions)
            num_other = sum(transcript.learned) - len(letters)
            for position, (token, learned) in enumerate(
                zip(transcript.token_ids, transcript.learned, strict=True)
            ):
                if learned:
                    is_one = position in letters
                    rows.append(row)
                    positions.append(position + batch.shifts[row] - 1)
                    targets.append(token)
                    weights.append(1 / (len(letters) if is_one else num_other) / len(lessons))
                    is_letter.append(is_one)
        answers = [answer for lesson in lessons for answer in lesson.answers]
        state_rows = [row for lesson in lessons for row in lesson.rows]
        supervision = Supervision(
            rows_N=torch.tensor(rows),
            positions_N=torch.tensor(positions),
            targets_N=torch.tensor(targets),
            weights_N=torch.tensor(weights),
            is_letter_N=torch.tensor(is_letter),
            teacher_targets_M=torch.tensor(
                [answer.letter_ids[answer.choice] for answer in answers]
            ),
            student_letters_ML=_pad([ids for lesson in lessons for ids in lesson.letter_ids]),
            teacher_letters_ML=_pad([answer.letter_ids for answer in answers]),
            teacher_logprobs_ML=_pad([answer.mean_logprobs.tolist() for answer in answers]),
            top_ids_MK=torch.tensor([row.top_ids.tolist() for row in state_rows]),
            top_logprobs_MK=torch.tensor([row.top_logprobs.tolist() for row in state_rows]),
            states={
                layer: torch.cat([lesson.states[layer] for lesson in lessons])
                for layer in lessons[0].states
            },
        )
        sample_ids = [lesson.sample.sample_id for lesson in lessons]
        return {"inputs": batch.inputs, "supervision": supervision, "sample_ids": sample_ids}


def _pad(rows: Sequence[Sequence[float]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in rows])
