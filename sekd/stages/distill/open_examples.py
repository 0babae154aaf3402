"""Training examples of open naming: the path without options, and what the teacher says about it.

Only the tokens at which the taxonomy leaves a choice are learned as an answer; all others are
format, like the words around a letter (:mod:`sekd.models.open_naming`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sekd.data.signals import TeacherSample
from sekd.data.taxonomy import Node
from sekd.models.chat import Transcript
from sekd.models.encoding import TokenIds
from sekd.models.hooks import FINAL_NORM
from sekd.models.open_naming import OpenAnswers

# Shapes: B branching tokens of a batch, K tokens that may stand there (a row with fewer repeats its
# first one, which counts as unknown there), P names, D hidden size.


@dataclass(frozen=True)
class TaughtBranch:
    """A token at which the answer could have gone on otherwise.

    Attributes:
        position: of the token in the transcript.
        level: that the branch decides, from 0 for the first one below the root.
        token_ids: the tokens that may stand there.
        masses: the teacher's probability of each: the sum over the children that go on with it.
            ``None`` where it gave none of them a probability, because they were not among its
            options.
    """

    position: int
    level: int
    token_ids: TokenIds
    masses: tuple[float | None, ...]


@dataclass(frozen=True)
class OpenExample:
    """The prompt of open naming with the path of one sample.

    Attributes:
        transcript: its positions are the first tokens of the names that the teacher was asked for.
        levels: of these names, from 0 for the first one below the root.
        states: layer name -> the teacher's states [names, D], at its letters. The final states are
            not among them: they predict letters and no names.
    """

    sample: TeacherSample
    transcript: Transcript
    levels: tuple[int, ...]
    branches: tuple[TaughtBranch, ...]
    states: dict[str, Tensor]


def open_example(
    answers: OpenAnswers,
    sample: TeacherSample,
    leaf: Node,
    probabilities: Mapping[int, Mapping[str, float]],
    states: Mapping[str, Tensor],
) -> OpenExample:
    """Make the example of a sample.

    Args:
        sample: its answers say which levels of names there are states for.
        leaf: whose path is learned.
        probabilities: of the teacher, by level, from 0 for the first one below the root: node id ->
            probability. Nodes that are no children of the path are ignored.
        states: layer name -> teacher states [answers, D].
    """
    branches = []
    for depth, branch, _ in answers.branches_to(leaf):
        known = probabilities.get(depth, {})
        masses: list[float | None] = []
        for part in branch.ranges:
            given = [known[o.id] for o in answers.outcomes(part, depth) if o.id in known]
            masses.append(sum(given) if given else None)
        position = len(branch.prefix_ids)
        branches.append(TaughtBranch(position, depth, branch.token_ids, tuple(masses)))
    middle = {layer: rows for layer, rows in states.items() if layer != FINAL_NORM}
    transcript = answers.transcript(leaf)
    levels = tuple(answer.level - 1 for answer in sample.answers)
    positions = tuple(transcript.positions[level] for level in levels)
    transcript = replace(transcript, positions=positions)
    return OpenExample(sample, transcript, levels, tuple(branches), middle)


@dataclass(frozen=True)
class OpenSignals:
    """The teacher's signals of the examples of open naming in a batch.

    Attributes:
        token_ids_BK: int64, the tokens that may stand at each branching token.
        logprobs_BK: float32, the teacher's log-probability of each, among those that are known;
            ``-inf`` for the others.
        rows_P, positions_P: int64, where the state is that predicts the first token of each name.
        weights_P: float32; the names of a sequence share a weight of 1, which is divided by the
            number of sequences in the micro-batch.
        states: layer name -> the teacher's states [P, D] at its letters.
    """

    token_ids_BK: Tensor
    logprobs_BK: Tensor
    rows_P: Tensor
    positions_P: Tensor
    weights_P: Tensor
    states: dict[str, Tensor]

    def to(self, device: torch.device) -> OpenSignals:
        """Move every tensor to a device."""
        return OpenSignals(
            self.token_ids_BK.to(device),
            self.logprobs_BK.to(device),
            self.rows_P.to(device),
            self.positions_P.to(device),
            self.weights_P.to(device),
            {layer: states_PD.to(device) for layer, states_PD in self.states.items()},
        )


def collate_open_signals(
    rows: Sequence[tuple[int, OpenExample]],
    shifts: Sequence[int],
    shares: Sequence[Sequence[float]],
    num_sequences: int,
) -> OpenSignals:
    """Collate the signals of some examples, which are these rows of a batch.

    Args:
        shifts: for every row of the batch, the number of tokens that its image takes beyond its
            placeholder.
        shares: for each example, the share of each of its names in the mean over them.
        num_sequences: of the micro-batch.
    """
    branches = [branch for _, example in rows for branch in example.branches]
    width = max((len(branch.token_ids) for branch in branches), default=1)
    token_ids = torch.zeros(len(branches), width, dtype=torch.int64)
    logprobs = torch.full((len(branches), width), -math.inf)
    for index, branch in enumerate(branches):
        num_tokens = len(branch.token_ids)
        token_ids[index] = branch.token_ids[0]
        token_ids[index, :num_tokens] = torch.tensor(branch.token_ids)
        masses = torch.tensor([mass or 0.0 for mass in branch.masses], dtype=torch.float64)
        if masses.sum() > 0:
            logprobs[index, :num_tokens] = (masses / masses.sum()).log().float()
    places = [
        (row, position + shifts[row] - 1)
        for row, example in rows
        for position in example.transcript.positions
    ]
    weights = [share / num_sequences for of_example in shares for share in of_example]
    return OpenSignals(
        token_ids_BK=token_ids,
        logprobs_BK=logprobs,
        rows_P=torch.tensor([row for row, _ in places]),
        positions_P=torch.tensor([position for _, position in places]),
        weights_P=torch.tensor(weights),
        states={
            layer: torch.cat([example.states[layer] for _, example in rows])
            for layer in rows[0][1].states
        },
    )
