"""Collate examples into micro-batches: the model's inputs, its target tokens and the signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from sekd.data.image_refs import ImageRef
from sekd.data.images import Reading, read_unchanged
from sekd.errors import FatalError
from sekd.models.batching import Batch, Batcher
from sekd.stages.distill.dataset import Example, JointExample, ReplayExample
from sekd.stages.distill.open_examples import OpenExample, OpenSignals, collate_open_signals

# Shapes: N target tokens of the batch, M answer letters among them, K top-k entries, L options
# (a row with fewer options repeats its first one), D hidden size.


@dataclass(frozen=True)
class TargetTokens:
    """The tokens of a batch that the model has to write.

    Attributes:
        rows_N: int64, the token's row in the batch.
        positions_N: int64, the position of the state that predicts the token, one before it.
        token_ids_N: int64.
        is_letter_N: bool, whether the token is an answer's letter; M of them are.
        is_branch_N: bool, whether the token is one of open naming at which the taxonomy leaves a
            choice.
        weights_N: float32. The letters of a sequence share a weight of 1, and so do its other
            tokens; both are divided by the number of sequences in the micro-batch, so that a
            weighted sum is a mean over sequences. In open naming the levels with a choice share a
            weight of 1, and each branching token has that of its level: their sum is the loss of a
            name.
        text_weights_N: float32. All tokens of a sequence share a weight of 1 equally, which is
            divided by the same number.
    """

    rows_N: Tensor
    positions_N: Tensor
    token_ids_N: Tensor
    is_letter_N: Tensor
    is_branch_N: Tensor
    weights_N: Tensor
    text_weights_N: Tensor

    def __len__(self) -> int:
        return len(self.token_ids_N)

    def to(self, device: torch.device) -> TargetTokens:
        """Move every tensor to a device."""
        return self._map(lambda values_N: values_N.to(device))

    def select(self, is_selected_N: Tensor) -> TargetTokens:
        """Return the tokens where the mask is true, in the same order."""
        return self._map(lambda values_N: values_N[is_selected_N])

    def _map(self, function: Callable[[Tensor], Tensor]) -> TargetTokens:
        return TargetTokens(
            **{field.name: function(getattr(self, field.name)) for field in fields(self)}
        )


@dataclass(frozen=True)
class Signals:
    """The teacher's signals at the M letters of a batch.

    Attributes:
        chosen_letters_M: int64, the letter that the teacher wrote for the node of its answer.
        student_letters_ML, teacher_letters_ML: int64, the token of each option's letter in the
            student's prompt and in the teacher's dialogue.
        logprobs_ML: float32, the teacher's log-probability of each option, averaged over all
            orders of the options.
        top_ids_MK, top_logprobs_MK: the teacher's top-k tokens.
        states: layer name -> the teacher's states [M, D].
    """

    chosen_letters_M: Tensor
    student_letters_ML: Tensor
    teacher_letters_ML: Tensor
    logprobs_ML: Tensor
    top_ids_MK: Tensor
    top_logprobs_MK: Tensor
    states: dict[str, Tensor]

    def to(self, device: torch.device) -> Signals:
        """Move every tensor to a device."""
        return Signals(
            chosen_letters_M=self.chosen_letters_M.to(device),
            student_letters_ML=self.student_letters_ML.to(device),
            teacher_letters_ML=self.teacher_letters_ML.to(device),
            logprobs_ML=self.logprobs_ML.to(device),
            top_ids_MK=self.top_ids_MK.to(device),
            top_logprobs_MK=self.top_logprobs_MK.to(device),
            states={layer: states_MD.to(device) for layer, states_MD in self.states.items()},
        )


@dataclass(frozen=True)
class SequenceBatch:
    """The sequences of one kind in a micro-batch: prompts to learn from, or replayed sequences.

    Attributes:
        inputs: arguments of the model's ``forward``.
        signals: those at letters; ``None`` where there is no joint prompt.
        open_signals: those of open naming; ``None`` where there is none.
    """

    inputs: dict[str, Tensor]
    targets: TargetTokens
    signals: Signals | None
    num_sequences: int
    open_signals: OpenSignals | None = None

    def to(self, device: torch.device) -> SequenceBatch:
        """Move targets and signals to a device; the inputs stay where they are."""
        signals = self.signals.to(device) if self.signals is not None else None
        named = self.open_signals.to(device) if self.open_signals is not None else None
        targets = self.targets.to(device)
        return replace(self, targets=targets, signals=signals, open_signals=named)


@dataclass(frozen=True)
class MicroBatch:
    """The sequences of one forward and backward pass; ``None`` for a kind without a sequence.

    Attributes:
        joint: joint prompts, and prompts of open naming.
    """

    joint: SequenceBatch | None
    replay: SequenceBatch | None
    sample_ids: tuple[str, ...]


class DistillCollator:
    """Collates examples into a :class:`MicroBatch`.

    Args:
        level_weights: relative weight of each level's letter in a joint prompt, from the first
            level on. Levels beyond the last weight have weight 1.
        reading: how the teacher's images were read.
    """

    def __init__(
        self,
        batcher: Batcher,
        level_weights: Sequence[float] = (),
        reading: Reading = Reading(),  # noqa: B008  it is frozen
    ) -> None:
        self._batcher = batcher
        self._level_weights = level_weights
        self._reading = reading

    def __call__(self, examples: Sequence[Example]) -> MicroBatch:
        """Build one micro-batch.

        Raises:
            SampleError: if an image file has changed since the teacher saw it.
            FatalError: if a target token is not at its position; the message names the sample.
        """
        taught = [example for example in examples if not isinstance(example, ReplayExample)]
        replay = [example for example in examples if isinstance(example, ReplayExample)]
        num_sequences = len(examples)
        return MicroBatch(
            joint=self._collate(taught, num_sequences) if taught else None,
            replay=self._collate(replay, num_sequences) if replay else None,
            sample_ids=tuple(example.sample.sample_id for example in examples),
        )

    def _collate(self, examples: Sequence[Example], num_sequences: int) -> SequenceBatch:
        """Collate examples of one kind; ``num_sequences`` counts those of both kinds."""
        joint = [example for example in examples if isinstance(example, JointExample)]
        signals = _collate_signals(joint) if joint else None
        samples = [example.sample for example in examples]
        batch = self._batcher(
            [example.transcript.token_ids for example in examples],
            [
                read_unchanged(ImageRef.parse(sample.image), sample.image_sha256, self._reading)
                for sample in samples
            ],
            [sample.image_sha256 for sample in samples],
        )
        targets = _stack_targets(
            [
                target
                for row, example in enumerate(examples)
                for target in self._targets(example, row, batch.shifts[row], num_sequences)
            ]
        )
        _check_alignment(examples, batch, targets, signals)
        rows = [(row, each) for row, each in enumerate(examples) if isinstance(each, OpenExample)]
        named = None
        if rows:
            shares = [_level_shares(example.levels, self._level_weights) for _, example in rows]
            named = collate_open_signals(rows, batch.shifts, shares, num_sequences)
        return SequenceBatch(batch.inputs, targets, signals, len(examples), named)

    def _targets(
        self, example: Example, row: int, shift: int, num_sequences: int
    ) -> Iterator[_Target]:
        """Yield the target tokens of one example, which is this row of the batch.

        Args:
            shift: the number of tokens that the image takes beyond its one placeholder.
        """
        transcript = example.transcript
        is_open = isinstance(example, OpenExample)
        chosen_shares = self._chosen_shares(example)
        num_targets = sum(transcript.is_target)
        num_others = num_targets - len(chosen_shares)
        tokens = zip(transcript.token_ids, transcript.is_target, strict=True)
        for position, (token_id, is_target) in enumerate(tokens):
            if not is_target:
                continue
            is_chosen = position in chosen_shares
            share = chosen_shares[position] if is_chosen else 1 / num_others
            yield _Target(
                row=row,
                position=position + shift - 1,
                token_id=token_id,
                is_letter=is_chosen and not is_open,
                is_branch=is_chosen and is_open,
                weight=share / num_sequences,
                text_weight=1 / num_targets / num_sequences,
            )

    def _chosen_shares(self, example: Example) -> dict[int, float]:
        """Map the position of each letter, or branching token, to its share of the mean."""
        if isinstance(example, OpenExample):
            levels = sorted({branch.level for branch in example.branches})
            shares = dict(zip(levels, _level_shares(levels, self._level_weights), strict=True))
            return {branch.position: shares[branch.level] for branch in example.branches}
        positions = example.transcript.positions
        level_weights = self._level_weights if isinstance(example, JointExample) else ()
        return dict(
            zip(positions, _level_shares(range(len(positions)), level_weights), strict=True)
        )


@dataclass(frozen=True)
class _Target:
    """One target token; see :class:`TargetTokens`."""

    row: int
    position: int
    token_id: int
    is_letter: bool
    is_branch: bool
    weight: float
    text_weight: float


def _stack_targets(targets: Sequence[_Target]) -> TargetTokens:
    return TargetTokens(
        rows_N=torch.tensor([target.row for target in targets]),
        positions_N=torch.tensor([target.position for target in targets]),
        token_ids_N=torch.tensor([target.token_id for target in targets]),
        is_letter_N=torch.tensor([target.is_letter for target in targets]),
        is_branch_N=torch.tensor([target.is_branch for target in targets]),
        weights_N=torch.tensor([target.weight for target in targets]),
        text_weights_N=torch.tensor([target.text_weight for target in targets]),
    )


def _level_shares(levels: Sequence[int], level_weights: Sequence[float]) -> list[float]:
    """Return each level's share of the mean over these levels; they add up to 1.

    If all weights are 0, so are all shares.
    """
    num_given = len(level_weights)
    weights = [level_weights[level] if level < num_given else 1.0 for level in levels]
    total = sum(weights) or 1.0
    return [weight / total for weight in weights]


def _collate_signals(examples: Sequence[JointExample]) -> Signals:
    answers = [answer for example in examples for answer in example.sample.answers]
    state_rows = [row for example in examples for row in example.state_rows]
    return Signals(
        chosen_letters_M=torch.tensor([answer.letter_ids[answer.choice] for answer in answers]),
        student_letters_ML=_pad([ids for example in examples for ids in example.letter_ids]),
        teacher_letters_ML=_pad([answer.letter_ids for answer in answers]),
        logprobs_ML=_pad([answer.mean_logprobs.tolist() for answer in answers]),
        top_ids_MK=torch.tensor([row.top_ids.tolist() for row in state_rows]),
        top_logprobs_MK=torch.tensor([row.top_logprobs.tolist() for row in state_rows]),
        states={
            layer: torch.cat([example.states[layer] for example in examples])
            for layer in examples[0].states
        },
    )


def _pad(rows: Sequence[Sequence[float]]) -> Tensor:
    """Stack rows into one tensor; a shorter row repeats its first value."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in rows])


def _check_alignment(
    examples: Sequence[Example], batch: Batch, targets: TargetTokens, signals: Signals | None
) -> None:
    """Check by token ids, in the tensors that the model gets, that targets are in their places.

    Every target token must stand in ``input_ids`` right after the position that predicts it, and
    every letter must be one of its question's options.

    Raises:
        FatalError: for the first token that is wrong; the message names the sample.
    """
    input_ids = batch.inputs["input_ids"]
    places_N = (targets.positions_N + 1).clamp_max(input_ids.shape[1] - 1)
    found_N = input_ids[targets.rows_N, places_N]
    is_wrong_N = found_N != targets.token_ids_N
    if signals is not None:
        letters_M = targets.token_ids_N[targets.is_letter_N]
        is_option_M = (signals.student_letters_ML == letters_M[:, None]).any(-1)
        is_wrong_N[targets.is_letter_N] |= ~is_option_M
    if not is_wrong_N.any():
        return
    first = int(is_wrong_N.nonzero()[0])
    example = examples[int(targets.rows_N[first])]
    role = "the letter of an answer" if targets.is_letter_N[first] else "a target"
    raise FatalError(
        f"sample {example.sample.sample_id}: token {int(places_N[first])} of the model's input is "
        f"{int(found_N[first])}, where {int(targets.token_ids_N[first])} was expected as {role}"
    )
