"""Descend a taxonomy with a model, among the children of its own answers; no label is needed.

A single child is given: nothing is asked about it. Up to ``max_options`` children are one question.
More are asked about in groups, which share the prompt before them, and then among the winners. So
each child of a node that was visited gets a probability, and each path their product.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sekd.config import DescentSpec, ElicitSpec
from sekd.data.branching import Branches, deal_groups, join_groups
from sekd.data.images import hash_pixels
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Node
from sekd.engines import Conversation
from sekd.engines.driver import in_step
from sekd.errors import SampleError
from sekd.models.chat import Chat
from sekd.stages.path_rules import NO_RULES, PathRules
from sekd.stages.prepare import PreparedSample
from sekd.stages.walk import AnsweredTurn, ask_next, known_root

DESCENT_VERSION = 3
"""Part of fingerprints: raise it when the same model would give other paths or probabilities."""


@dataclass(frozen=True, eq=False)
class DescentLevel:
    """One step of a path, from a node to one of its children.

    Attributes:
        level: 1 for the first level below the root.
        rank: what was asked for.
        node: where the path goes on. It is the parent itself if the path ends there, at a leaf of
            the taxonomy that has children.
        children: the nodes at which the path could go on, in the order of the taxonomy.
        probabilities: float64 [children], which sum to one.
        path_probability: that of the whole path down to here.
        option_mass: the probability of all letters that were shown, 0 to 1, in the question that
            decided; ``None`` where nothing was asked.
        outside: the probability of the children that a restriction left out, before it did.
    """

    level: int
    rank: str
    node: Node
    children: tuple[Node, ...]
    probabilities: NDArray[np.float64]
    path_probability: float
    option_mass: float | None
    outside: float = 0.0

    @property
    def logprobs(self) -> NDArray[np.float64]:
        """float64 [children]: the log-probabilities; minus infinity where one is zero."""
        with np.errstate(divide="ignore"):
            return np.log(self.probabilities)

    @property
    def probability(self) -> float:
        """The probability of the node among the children."""
        return float(self.probabilities[self.children.index(self.node)])


@dataclass(frozen=True)
class DescentPath:
    """A path that was descended, from the first level below the root."""

    levels: tuple[DescentLevel, ...]

    @property
    def leaf(self) -> Node:
        """The node at which the path ends."""
        return self.levels[-1].node

    @property
    def probability(self) -> float:
        """The product of the probabilities of its nodes."""
        return self.levels[-1].path_probability


@dataclass(frozen=True)
class Descent:
    """A model's descent of one sample.

    Attributes:
        paths: the most probable one first; as many as the beam is wide, if there are that many.
        num_questions: the number of questions, those about groups counted each.
        num_prompt_tokens, num_cached_tokens: sums over all requests.
    """

    sample_id: str
    paths: tuple[DescentPath, ...]
    num_questions: int
    num_prompt_tokens: int
    num_cached_tokens: int

    @property
    def path_cells(self) -> list[dict[str, Any]]:
        """The paths as cells of a table, of the type :data:`sekd.data.predictions.PATH`."""
        return [{"node": path.leaf.id, "probability": path.probability} for path in self.paths]


def descend(
    chat: Chat,
    dataset: Dataset,
    prepared: PreparedSample,
    spec: DescentSpec,
    teacher: ElicitSpec,
    rules: PathRules = NO_RULES,
) -> Conversation[Descent]:
    """Descend from the root to a leaf, or to several leaves under a beam.

    Args:
        teacher: its ``style`` and ``permutations`` say how questions are asked.
        rules: say where paths may lead and end, and adjust the probabilities of children. All
            children are asked about.

    Raises:
        SampleError: if there is no level below the root.
    """
    asker = _Asker(chat, dataset, prepared, spec, teacher, rules)
    best = [_Hypothesis(dataset.taxonomy.root)]
    while growing := [each for each in best if not each.is_done]:
        grown = yield from in_step([asker.grow(each) for each in growing])
        ended = [each for each in best if each.is_done]
        longer = [each for group in grown for each in group]
        # Sorting is stable: of equal paths the one of the child that comes first is kept.
        best = sorted([*ended, *longer], key=lambda each: -each.probability)[: spec.beam]
    if not best[0].levels:
        raise SampleError("there is no level below the root to ask about")
    return Descent(
        sample_id=prepared.sample.id,
        paths=tuple(DescentPath(each.levels) for each in best),
        num_questions=asker.num_questions,
        num_prompt_tokens=asker.num_prompt_tokens,
        num_cached_tokens=asker.num_cached_tokens,
    )


@dataclass(frozen=True)
class _Hypothesis:
    """A path that may go on.

    Attributes:
        node: where it has come to.
        last: the last turn of its dialogue; ``None`` before the first question.
        is_done: the path ends here.
    """

    node: Node
    levels: tuple[DescentLevel, ...] = ()
    last: AnsweredTurn | None = None
    is_done: bool = False

    @property
    def probability(self) -> float:
        return self.levels[-1].path_probability if self.levels else 1.0


@dataclass(frozen=True, eq=False)
class _Compared:
    """The probabilities of some nodes, and for each the turn in which it was shown last."""

    probabilities: NDArray[np.float64]
    turns: Sequence[AnsweredTurn | None]
    option_mass: float | None


class _Asker:
    """Asks the questions of one descent, and counts them and their tokens."""

    def __init__(
        self,
        chat: Chat,
        dataset: Dataset,
        prepared: PreparedSample,
        spec: DescentSpec,
        teacher: ElicitSpec,
        rules: PathRules,
    ) -> None:
        self._chat, self._dataset, self._prepared = chat, dataset, prepared
        self._spec, self._teacher, self._rules = spec, teacher, rules
        leaf = prepared.sample.leaf
        self._true_path = [] if leaf is None else [*dataset.taxonomy.path(leaf), leaf]
        self.num_questions = self.num_prompt_tokens = self.num_cached_tokens = 0

    @cached_property
    def _picture(self) -> str:
        """Identifies the picture: a hash of its pixels, or the sample where none is shown."""
        image = self._prepared.image
        return self._prepared.sample.id if image is None else hash_pixels(image)

    def grow(self, path: _Hypothesis) -> Conversation[list[_Hypothesis]]:
        """Extend a path by one level; returns it with each of the branches below its node."""
        branches = Branches.below(self._dataset.taxonomy, path.node)
        if branches is None or self._rules.ends_at(path.node):
            return [replace(path, is_done=True)]
        compared = yield from self._compare(branches.options, branches.rank, path, 0)
        turn_of = {
            node.id: turn
            for group, turn in zip(branches.lookalikes, compared.turns, strict=True)
            for node in group
        }
        asked = {
            option.id: probability
            for option, probability in zip(
                branches.options, compared.probabilities.tolist(), strict=True
            )
        }
        probabilities, outside = branches.spread(asked), 0.0
        if self._rules.adjusts:
            with np.errstate(divide="ignore"):
                logprobs = np.log(probabilities)
            logprobs, outside = self._rules.adjust(path.node, branches.nodes, logprobs)
            probabilities = np.exp(logprobs)
        return [
            _Hypothesis(
                node,
                (
                    *path.levels,
                    DescentLevel(
                        level=path.node.depth + 1,
                        rank=branches.rank,
                        node=node,
                        children=branches.nodes,
                        probabilities=probabilities,
                        path_probability=path.probability * probability,
                        option_mass=compared.option_mass,
                        outside=outside,
                    ),
                ),
                turn_of[node.id] or path.last,
                is_done=node is path.node,
            )
            for node, probability in zip(branches.nodes, probabilities.tolist(), strict=True)
            if self._rules.allows(path.node, node)
        ]

    def _compare(
        self, options: Sequence[Node], rank: str, path: _Hypothesis, round_number: int
    ) -> Conversation[_Compared]:
        """Ask which of some nodes it is: in one question, or in groups and among their winners."""
        key = f"{self._dataset.spec.seed}:{self._picture}:{path.node.id}:{round_number}"
        groups = deal_groups(options, self._spec.max_options, random.Random(key))
        within = yield from in_step([self._ask(group, rank, path) for group in groups])
        option_mass = within[0].option_mass
        shares = [each.probabilities for each in within]
        turn_of = {
            node.id: turn
            for group, each in zip(groups, within, strict=True)
            for node, turn in zip(group, each.turns, strict=True)
        }
        if len(groups) > 1:
            winners = [
                group[int(share.argmax())] for group, share in zip(groups, shares, strict=True)
            ]
            final = yield from self._compare(winners, rank, path, round_number + 1)
            option_mass = final.option_mass
            shares = join_groups(shares, final.probabilities)
            turn_of |= {node.id: turn for node, turn in zip(winners, final.turns, strict=True)}
        share_of = {
            node.id: share
            for group, each in zip(groups, shares, strict=True)
            for node, share in zip(group, each.tolist(), strict=True)
        }
        return _Compared(
            np.array([share_of[node.id] for node in options]),
            [turn_of[node.id] for node in options],
            option_mass,
        )

    def _ask(
        self, options: tuple[Node, ...], rank: str, path: _Hypothesis
    ) -> Conversation[_Compared]:
        """Ask one question about a path's next node; a single option is not asked about."""
        if len(options) == 1:
            return _Compared(np.ones(1), [None], None)
        # No model is told the truth; it is what the rehearsal of `sekd plan` answers. Behind the
        # last level it is the leaf again: to stay there.
        true_nodes = self._true_path[path.node.depth : path.node.depth + 1]
        truth = true_nodes[0] if true_nodes and true_nodes[0] in options else None
        question = Question(path.node.depth + 1, options, truth, rank)
        known = [*known_root(self._dataset), *(level.node for level in path.levels)]
        last = None if self._teacher.style == "facts" else path.last
        turn, answer = yield from ask_next(
            self._chat, self._prepared, question, known, last, self._teacher.permutations
        )
        self.num_questions += 1
        self.num_prompt_tokens += answer.num_prompt_tokens
        self.num_cached_tokens += answer.num_cached_tokens
        assert answer.mean_logprobs is not None
        logprobs = answer.mean_logprobs.astype(np.float64)
        mass = np.logaddexp.reduce(logprobs)
        turns = [(turn, index) for index in range(len(options))]
        return _Compared(np.exp(logprobs - mass), turns, float(np.exp(mass)))
