"""Lessons into batches: model inputs, and what is learned at which of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sekd.data.images import read_unchanged
from sekd.errors import FatalError
from sekd.models.batching import Batch, Batcher
from sekd.stages.distill.dataset import Example, JointExample, ReplayExample

# Shapes: N learned tokens over the batch, M answer letters among them, K top-k entries, L options
# (rows with fewer are padded with their first), D hidden size.


@dataclass(frozen=True)
class TargetTokens:
    """The tokens of a batch that the model is to write.

    Attributes:
        rows_N, positions_N: int64, of the state that predicts each of them.
        targets_N: int64, the tokens.
        is_letter_N: whether it is an answer's letter; M of them.
        weights_N: float32, each token's share of its sequence's mean over letters, or over other
            tokens, by the number of sequences in the whole batch: sums over a batch are means over
            its sequences.
        text_weights_N: the same for the mean over all tokens alike.
    """

    rows_N: Tensor
    positions_N: Tensor
    targets_N: Tensor
    is_letter_N: Tensor
    weights_N: Tensor
    text_weights_N: Tensor


@dataclass(frozen=True)
class Signals:
    """The teacher's signals at the M letters of a batch.

    Attributes:
        targets_M: the letter that the teacher wrote for the same node.
        student_letters_ML, teacher_letters_ML: token of each option's letter here and in the
            teacher's dialogue, one column per option.
        logprobs_ML: of those, the mean over all orders of the options.
        top_ids_MK, top_logprobs_MK: the teacher's top k.
        states: layer name -> the teacher's states [M, D].
    """

    targets_M: Tensor
    student_letters_ML: Tensor
    teacher_letters_ML: Tensor
    logprobs_ML: Tensor
    top_ids_MK: Tensor
    top_logprobs_MK: Tensor
    states: dict[str, Tensor]


@dataclass(frozen=True)
class SequenceBatch:
    """The joint prompts of a micro-batch, with signals, or its replayed sequences, without."""

    inputs: dict[str, Tensor]
    learned: TargetTokens
    signals: Signals | None
    num_sequences: int

    def to(self, device: torch.device) -> SequenceBatch:
        """The same with learned tokens and signals on a device; inputs stay where they are."""
        signals = self.signals and replace(
            self.signals,
            **_tensors(self.signals, device),
            states={name: state.to(device) for name, state in self.signals.states.items()},
        )
        return replace(
            self, learned=replace(self.learned, **_tensors(self.learned, device)), signals=signals
        )


def _tensors(part: TargetTokens | Signals, device: torch.device) -> dict[str, Any]:
    values = {item.name: getattr(part, item.name) for item in fields(part)}
    return {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass learns; a part is ``None`` where it has no sequence."""

    joint: SequenceBatch | None
    replay: SequenceBatch | None
    sample_ids: tuple[str, ...]


class DistillCollator:
    """Lessons into a :class:`MicroBatch`.

    Args:
        level_weights: of each level's letter of a joint prompt, from the first level on; 1 beyond.
    """

    def __init__(self, batcher: Batcher, level_weights: Sequence[float] = ()) -> None:
        self._batcher = batcher
        self._level_weights = level_weights

    def __call__(self, lessons: Sequence[Example]) -> MicroBatch:
        """Build one.

        Raises:
            SampleError: if an image is not the one that the teacher saw.
            FatalError: if a token is not where it should be; the sample is named.
        """
        joint = [lesson for lesson in lessons if isinstance(lesson, JointExample)]
        replay = [lesson for lesson in lessons if isinstance(lesson, ReplayExample)]
        return MicroBatch(
            joint=self._part(joint, _signals(joint), len(lessons)) if joint else None,
            replay=self._part(replay, None, len(lessons)) if replay else None,
            sample_ids=tuple(lesson.sample.sample_id for lesson in lessons),
        )

    def _part(
        self, lessons: Sequence[Example], signals: Signals | None, num_all: int
    ) -> SequenceBatch:
        samples = [lesson.sample for lesson in lessons]
        batch = self._batcher(
            [lesson.transcript.token_ids for lesson in lessons],
            [read_unchanged(Path(sample.image), sample.image_sha256) for sample in samples],
            [sample.image_sha256 for sample in samples],
        )
        learned = self._learned(lessons, batch, num_all)
        _check_alignment(lessons, batch, learned, signals)
        return SequenceBatch(batch.inputs, learned, signals, len(lessons))

    def _learned(self, lessons: Sequence[Example], batch: Batch, num_all: int) -> TargetTokens:
        rows, positions, targets, weights, text_weights, is_letter = [], [], [], [], [], []
        for row, lesson in enumerate(lessons):
            transcript = lesson.transcript
            level_weights = self._level_weights if isinstance(lesson, JointExample) else ()
            shares = _shares(len(transcript.positions), level_weights)
            at_letters = dict(zip(transcript.positions, shares, strict=True))
            num_learned = sum(transcript.is_target)
            num_other = num_learned - len(at_letters)
            for position, token in enumerate(transcript.token_ids):
                if transcript.is_target[position]:
                    rows.append(row)
                    positions.append(position + batch.shifts[row] - 1)
                    targets.append(token)
                    is_letter.append(position in at_letters)
                    share = at_letters[position] if is_letter[-1] else 1 / num_other
                    weights.append(share / num_all)
                    text_weights.append(1 / num_learned / num_all)
        return TargetTokens(
            rows_N=torch.tensor(rows),
            positions_N=torch.tensor(positions),
            targets_N=torch.tensor(targets),
            is_letter_N=torch.tensor(is_letter),
            weights_N=torch.tensor(weights),
            text_weights_N=torch.tensor(text_weights),
        )


def _shares(num_letters: int, level_weights: Sequence[float]) -> list[float]:
    """Of each letter, its share of the mean over its sequence's letters."""
    given = level_weights[:num_letters]
    weights = [*given, *[1.0] * (num_letters - len(given))]
    total = sum(weights) or 1.0
    return [weight / total for weight in weights]


def _signals(lessons: Sequence[JointExample]) -> Signals | None:
    if not lessons:
        return None
    answers = [answer for lesson in lessons for answer in lesson.sample.answers]
    state_rows = [row for lesson in lessons for row in lesson.rows]
    return Signals(
        targets_M=torch.tensor([answer.letter_ids[answer.choice] for answer in answers]),
        student_letters_ML=_pad([ids for lesson in lessons for ids in lesson.letter_ids]),
        teacher_letters_ML=_pad([answer.letter_ids for answer in answers]),
        logprobs_ML=_pad([answer.mean_logprobs.tolist() for answer in answers]),
        top_ids_MK=torch.tensor([row.top_ids.tolist() for row in state_rows]),
        top_logprobs_MK=torch.tensor([row.top_logprobs.tolist() for row in state_rows]),
        states={
            layer: torch.cat([lesson.states[layer] for lesson in lessons])
            for layer in lessons[0].states
        },
    )


def _pad(rows: Sequence[Sequence[float]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in rows])


def _check_alignment(
    lessons: Sequence[Example], batch: Batch, learned: TargetTokens, signals: Signals | None
) -> None:
    """Alignment by token ids, in the very tensors that the model gets.

    Every learned token is in ``input_ids`` behind the state that predicts it, and every letter is
    one of its question's.

    Raises:
        FatalError: naming the sample.
    """
    ids = batch.inputs["input_ids"]
    places_N = (learned.positions_N + 1).clamp_max(ids.shape[1] - 1)
    found_N = ids[learned.rows_N, places_N]
    is_wrong_N = found_N != learned.targets_N
    if signals is not None:
        letters_M = learned.targets_N[learned.is_letter_N]
        is_option_M = (signals.student_letters_ML == letters_M[:, None]).any(-1)
        is_wrong_N[learned.is_letter_N] |= ~is_option_M
    for n in is_wrong_N.nonzero().flatten().tolist()[:1]:
        lesson = lessons[int(learned.rows_N[n])]
        raise FatalError(
            f"sample {lesson.sample.sample_id}: token {int(places_N[n])} is "
            f"{int(found_N[n])}, where {int(learned.targets_N[n])} is to be learned"
            f"{' as a letter' if learned.is_letter_N[n] else ''}"
        )
