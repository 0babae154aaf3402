"""The terms of the student's loss: for each one its name, its panel in the figure and its formula.

To add a term, write its function here, list it in :data:`JOINT_TERMS` or :data:`REPLAY_TERMS`, and
add its weight to ``LossWeights`` in ``sekd/config/distill.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sekd.config import DistillSpec
from sekd.models.hooks import FINAL_NORM
from sekd.stages.distill.collate import MicroBatch, SequenceBatch, Signals, TargetTokens
from sekd.stages.distill.losses import (
    branch_loss,
    feature_loss,
    hard_loss,
    rename_letters,
    soft_loss,
    top_k_soft_loss,
)
from sekd.stages.distill.open_examples import OpenSignals

# Shapes: N target tokens, M answer letters among them, T other target tokens, V vocabulary,
# D hidden size.


@dataclass(frozen=True)
class JointOutputs:
    """The student's outputs for the joint prompts, and those of open naming, of a micro-batch.

    Attributes:
        letters, branches, others: the M target tokens that are answer letters, the B ones of open
            naming at which the taxonomy leaves a choice, and the T others.
        letter_logits_MV, branch_logits_BV, other_logits_TV: the student's logits at them.
        states: layer name -> the student's states [M, D] at the letters, for the layers of the
            feature term; empty if no term reads states.
        teacher_logits_MV: the teacher's logits at the letters, computed from its final states;
            ``None`` if those are not stored, or if no term reads the logits.
        name_states: layer name -> the student's states [P, D] at the names of open naming.
        signals: the teacher's signals at the letters; ``None`` where there is no letter.
        open_signals: those of open naming; ``None`` where there is none.
    """

    letters: TargetTokens
    others: TargetTokens
    branches: TargetTokens
    letter_logits_MV: Tensor
    other_logits_TV: Tensor
    branch_logits_BV: Tensor
    states: Mapping[str, Tensor]
    name_states: Mapping[str, Tensor]
    teacher_logits_MV: Tensor | None
    signals: Signals | None
    open_signals: OpenSignals | None

    @cached_property
    def letter_losses_M(self) -> Tensor:
        """Cross-entropy at each letter."""
        return hard_loss(self.letter_logits_MV, self.letters.token_ids_N)

    @cached_property
    def branch_losses_B(self) -> Tensor:
        """Cross-entropy at each branching token, over the whole vocabulary."""
        return hard_loss(self.branch_logits_BV, self.branches.token_ids_N)

    @cached_property
    def other_losses_T(self) -> Tensor:
        """Cross-entropy at each other target token."""
        return hard_loss(self.other_logits_TV, self.others.token_ids_N)


@dataclass(frozen=True)
class ReplayOutputs:
    """The outputs of student and base for the replayed sequences of a micro-batch."""

    targets: TargetTokens
    student_logits_NV: Tensor
    base_logits_NV: Tensor


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """One term of the loss.

    Attributes:
        name: the name of its weight in ``distill.losses`` and of its column in ``curves.csv``.
        title, unit: the title and the unit of its panel in ``curves.png``.
    """

    name: str
    title: str
    unit: str

    @abstractmethod
    def sequences(self, batch: MicroBatch) -> SequenceBatch | None:
        """Return the sequences of a micro-batch that the term is computed on."""


@dataclass(frozen=True, kw_only=True)
class JointTerm(Term):
    """A term over the joint prompts.

    Attributes:
        compute: returns a float32 scalar, the weighted sum of the losses at the target tokens.
        reads_states: whether ``compute`` reads the student's states, which must be captured then.
        reads_teacher_logits: whether ``compute`` reads the teacher's logits.
    """

    compute: Callable[[JointOutputs, DistillSpec], Tensor]
    reads_states: bool = False
    reads_teacher_logits: bool = False

    def sequences(self, batch: MicroBatch) -> SequenceBatch | None:
        """Return the joint prompts."""
        return batch.joint


@dataclass(frozen=True, kw_only=True)
class ReplayTerm(Term):
    """A term over the replayed sequences.

    Attributes:
        compute: returns a float32 scalar, the weighted sum of the losses at the target tokens.
    """

    compute: Callable[[ReplayOutputs, DistillSpec], Tensor]

    def sequences(self, batch: MicroBatch) -> SequenceBatch | None:
        """Return the replayed sequences."""
        return batch.replay


def hard_term(outputs: JointOutputs, spec: DistillSpec) -> Tensor:
    """Cross-entropy at the answer letters, and at the branching tokens of open naming."""
    at_letters = (outputs.letter_losses_M * outputs.letters.weights_N).sum()
    return at_letters + (outputs.branch_losses_B * outputs.branches.weights_N).sum()


def format_term(outputs: JointOutputs, spec: DistillSpec) -> Tensor:
    """Cross-entropy at the tokens around the letters: level names, node names, ends of turn."""
    return (outputs.other_losses_T * outputs.others.weights_N).sum()


def text_term(outputs: JointOutputs, spec: DistillSpec) -> Tensor:
    """Cross-entropy at all target tokens, with equal weights within a sequence."""
    losses_N = torch.cat([outputs.other_losses_T, outputs.letter_losses_M, outputs.branch_losses_B])
    kinds = (outputs.others, outputs.letters, outputs.branches)
    weights_N = torch.cat([kind.text_weights_N for kind in kinds])
    return (losses_N * weights_N).sum()


def soft_term(outputs: JointOutputs, spec: DistillSpec) -> Tensor:
    """Divergence of the teacher's and the student's distribution at the letters.

    It is exact if the teacher's final states are stored, and over the top k and a tail otherwise.
    The probabilities of the letters themselves are the engine's, averaged over all orders of the
    options.

    At a branching token of open naming the teacher's distribution is that of the children, summed
    by the token that each goes on with, and the student's is over the same tokens.
    """
    loss = outputs.branch_logits_BV.new_zeros((), dtype=torch.float32)
    if outputs.open_signals is not None:
        losses_B = branch_loss(
            outputs.branch_logits_BV,
            outputs.open_signals.token_ids_BK,
            outputs.open_signals.logprobs_BK,
            temperature=spec.temperature,
            kind=spec.divergence,
        )
        loss = loss + (losses_B * outputs.branches.weights_N).sum()
    if outputs.signals is None:
        return loss
    if outputs.teacher_logits_MV is None:
        losses_M = _top_k_soft_losses(outputs, outputs.signals, spec)
    else:
        losses_M = _exact_soft_losses(outputs, outputs.signals, outputs.teacher_logits_MV, spec)
    return loss + (losses_M * outputs.letters.weights_N).sum()


def _exact_soft_losses(
    outputs: JointOutputs, signals: Signals, teacher_logits_MV: Tensor, spec: DistillSpec
) -> Tensor:
    teacher_MV = teacher_logits_MV.float().log_softmax(-1)
    teacher_MV = teacher_MV.scatter(-1, signals.teacher_letters_ML, signals.logprobs_ML)
    teacher_MV = rename_letters(teacher_MV, signals.teacher_letters_ML, signals.student_letters_ML)
    return soft_loss(
        outputs.letter_logits_MV, teacher_MV, temperature=spec.temperature, kind=spec.divergence
    )


def _top_k_soft_losses(outputs: JointOutputs, signals: Signals, spec: DistillSpec) -> Tensor:
    # The student's columns are renamed to the teacher's letters, because the top-k ids are those of
    # the teacher's vocabulary columns.
    student_MV = rename_letters(
        outputs.letter_logits_MV, signals.student_letters_ML, signals.teacher_letters_ML
    )
    top_logprobs_MK = signals.top_logprobs_MK
    letters = zip(signals.teacher_letters_ML.T, signals.logprobs_ML.T, strict=True)
    for letter_M, logprob_M in letters:
        is_letter_MK = signals.top_ids_MK == letter_M[:, None]
        top_logprobs_MK = torch.where(is_letter_MK, logprob_M[:, None], top_logprobs_MK)
    # The engine's probabilities may lift the sum above 1.
    top_logprobs_MK = top_logprobs_MK - top_logprobs_MK.logsumexp(-1, keepdim=True).clamp_min(0)
    return top_k_soft_loss(student_MV, signals.top_ids_MK, top_logprobs_MK, kind=spec.divergence)


def feature_term(outputs: JointOutputs, spec: DistillSpec) -> Tensor:
    """Distance between the teacher's and the student's states at the letters, mean over layers.

    The final state *is* the distribution of the next token. If the student has to write another
    token for the same node, the teacher's final state would lead it astray, and its distance
    counts as 0.

    In open naming, the teacher's state at its letter is compared with the student's at the first
    token of the name. Both write other tokens, so the final state has no distance there.
    """
    loss = outputs.letter_logits_MV.new_zeros((), dtype=torch.float32)
    named = outputs.open_signals
    if named is not None:
        for layer, states_PD in outputs.name_states.items():
            distance_P = feature_loss(states_PD, named.states[layer], spec.distance)
            loss = loss + (distance_P * named.weights_P).sum() / len(outputs.states)
    if outputs.signals is None:
        return loss
    is_same_M = outputs.letters.token_ids_N == outputs.signals.chosen_letters_M
    distances = []
    for layer, states_MD in outputs.states.items():
        distance_M = feature_loss(states_MD, outputs.signals.states[layer], spec.distance)
        distances.append(distance_M * is_same_M if layer == FINAL_NORM else distance_M)
    return loss + (torch.stack(distances).mean(0) * outputs.letters.weights_N).sum()


def replay_term(outputs: ReplayOutputs, spec: DistillSpec) -> Tensor:
    """KL divergence from the base to the student at the target tokens of replayed sequences."""
    losses_N = soft_loss(outputs.student_logits_NV, outputs.base_logits_NV)
    return (losses_N * outputs.targets.weights_N).sum()


JOINT_TERMS = (
    JointTerm(
        name="hard",
        title="hard: the teacher's letters",
        unit="cross-entropy [nats]",
        compute=hard_term,
    ),
    JointTerm(
        name="format",
        title="format: the words around them",
        unit="cross-entropy [nats]",
        compute=format_term,
    ),
    JointTerm(
        name="text",
        title="text: all tokens of the answer",
        unit="cross-entropy [nats]",
        compute=text_term,
    ),
    JointTerm(
        name="soft",
        title="soft: the teacher's distribution",
        unit="divergence [nats]",
        compute=soft_term,
        reads_teacher_logits=True,
    ),
    JointTerm(
        name="feature",
        title="feature: the teacher's states",
        unit="distance",
        compute=feature_term,
        reads_states=True,
    ),
)
REPLAY_TERMS = (
    ReplayTerm(
        name="replay",
        title="replay: drift from the base",
        unit="divergence [nats]",
        compute=replay_term,
    ),
)
TERMS: tuple[Term, ...] = (*JOINT_TERMS, *REPLAY_TERMS)
"""All terms, in the order of logs, tables and panels."""
