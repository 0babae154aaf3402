"""Open naming as a conversation: a model names the path of an image, and only paths can be named.

The tokens that a taxonomy leaves no choice about are appended; the model is asked for the others
alone, with the tokens that may follow in place of letters (:mod:`sekd.models.open_naming`). The
first request computes the prompt, and each later one a few tokens.

The probability of a token is the model's, renormalised over the tokens that may follow. That of a
child is the product over the tokens of its name at which the model had a choice, and that of a path
the product over its nodes. A single child has probability 1 and costs no call. Where a leaf has
children, ending there is one of the choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sekd.data.taxonomy import Node
from sekd.engines import Ask, Conversation, ask
from sekd.errors import SampleError
from sekd.models.open_naming import AnswerRange, OpenAnswers
from sekd.stages.answers import PathStep
from sekd.stages.path_rules import NO_RULES, PathRules
from sekd.stages.prepare import PreparedSample

NAMING_VERSION = 2
"""Part of fingerprints: raise it when the same model would give other paths or probabilities."""


def name_path(
    answers: OpenAnswers, prepared: PreparedSample, rules: PathRules = NO_RULES
) -> Conversation[list[PathStep]]:
    """Go down the taxonomy, at each node to its most probable child.

    Args:
        rules: say where the path may lead and end. The probabilities of its steps are those of the
            model, without the adjustments of the rules.

    Returns:
        One step for each node of the path, and one that ends it at a leaf with children.

    Raises:
        SampleError: if no leaf that the rules allow can be written.
    """
    search = _Search(answers, prepared, rules)
    fork = search.root
    while not fork.is_done:
        child = yield from search.best_child(fork)
        fork = fork.follow(child)
    return fork.steps


def name_paths(
    answers: OpenAnswers, prepared: PreparedSample, num_paths: int, rules: PathRules = NO_RULES
) -> Conversation[list[list[PathStep]]]:
    """Find the most probable paths of all, as many as are asked for, if there are that many.

    Best first: what is continued is always the beginning of which the most probable path may come.
    So no path that is not returned is more probable, by the model's own probabilities. The first
    one is at least as probable as that of :func:`name_path`, which decides at each node.

    Args:
        rules: as in :func:`name_path`.

    Returns:
        The steps of each path, the most probable path first.

    Raises:
        SampleError: as in :func:`name_path`.
    """
    search = _Search(answers, prepared, rules)
    forks, ends = [search.root], list[_Fork]()
    if search.root.is_done:
        return [search.root.steps]
    while forks and len(ends) < num_paths:
        bounds = [fork.logprob + fork.best.logprob for fork in forks]
        fork = forks[int(np.argmax(bounds))]
        best = fork.best
        if best.shared is not None:
            yield from search.split(fork, best.shared)
            continue
        grown = fork.follow(best.child)
        if grown.is_done:
            ends.append(grown)
        elif grown.has_more:
            forks.append(grown)
        if not fork.has_more:
            forks.remove(fork)
    return [end.steps for end in ends]


def follow_paths(
    answers: OpenAnswers, prepared: PreparedSample, beam: int, rules: PathRules = NO_RULES
) -> Conversation[list[list[PathStep]]]:
    """Find one path by :func:`name_path`, or several by :func:`name_paths`.

    Args:
        beam: number of paths, as in ``descent.beam``.
        rules: as in :func:`name_path`.

    Raises:
        SampleError: as in :func:`name_path`.
    """
    if beam == 1:
        return [(yield from name_path(answers, prepared, rules))]
    return (yield from name_paths(answers, prepared, beam, rules))


class _Candidate(NamedTuple):
    """The child of a fork that may be the most probable one.

    Attributes:
        logprob: of the child, given its parent: the largest that it may have.
        shared: index of the most probable beginning that the child shares with others; ``None``
            if there is none, and the log-probability is exact.
    """

    child: Node
    logprob: float
    shared: int | None


class _Fork:
    """The choice among the children of one node, and what is known about it so far.

    Attributes:
        node: whose children are chosen from.
        depth: of the node, counted by the steps to it.
        logprob: of the path to the node.
        beginnings: beginnings of answers below the node, with their log-probabilities given the
            node; together they have probability 1.
    """

    def __init__(
        self,
        answers: OpenAnswers,
        rules: PathRules,
        beginnings: list[tuple[float, AnswerRange]],
        above: tuple[_Fork, Node] | None = None,
    ) -> None:
        self._answers, self._rules, self._above = answers, rules, above
        self.beginnings = beginnings
        self.node, self.depth, self.logprob = answers.taxonomy.root, 0, 0.0
        if above is not None:
            parent, self.node = above
            self.depth = parent.depth + 1
            self.logprob = parent.logprob + parent.logprobs[self.node]
        self._followed: set[Node] = set()
        self._best: _Candidate | None = None
        self._logprobs: dict[Node, float] | None = None

    @cached_property
    def is_done(self) -> bool:
        """The path ends at this node."""
        if self._above is not None and self._above[0].node is self.node:
            return True  # it was chosen to end here
        if self._rules.ends_at(self.node):
            return True
        return {each for _, part in self.beginnings for each in self._outcomes(part)} == {self.node}

    @property
    def has_more(self) -> bool:
        """There is a child that the rules allow and that was not followed yet."""
        return any(self._open_outcomes(part) for _, part in self.beginnings)

    @property
    def best(self) -> _Candidate:
        """The child whose probability may be the largest, of those that were not followed yet.

        Of a beginning that several children share, each of them may have the whole probability.

        Raises:
            SampleError: if there is no such child.
        """
        if self._best is None:
            self._best = self._find_best()
        return self._best

    def _find_best(self) -> _Candidate:
        sharing = [
            (index, logprob, outcomes)
            for index, (logprob, part) in enumerate(self.beginnings)
            if (outcomes := self._open_outcomes(part))
        ]
        if not sharing:
            raise SampleError(
                "the leaves that may be named are written like others, which may not be named"
            )
        largest = max(logprob for _, logprob, _ in sharing)
        bounds: dict[Node, float] = {}
        for _, logprob, outcomes in sharing:
            share = float(np.exp(logprob - largest))
            for outcome in outcomes:
                bounds[outcome] = bounds.get(outcome, 0.0) + share
        child = max(bounds, key=bounds.__getitem__)
        shared = [
            (logprob, -index)
            for index, logprob, outcomes in sharing
            if child in outcomes and len(self._outcomes(self.beginnings[index][1])) > 1
        ]
        return _Candidate(
            child, largest + float(np.log(bounds[child])), -max(shared)[1] if shared else None
        )

    @property
    def logprobs(self) -> dict[Node, float]:
        """The log-probability of each child, and of the node itself where a path may end at it.

        That of a beginning that several children share is divided evenly among them.
        """
        if self._logprobs is None:
            self._logprobs = self._sum_by_child()
        return self._logprobs

    def _sum_by_child(self) -> dict[Node, float]:
        logprob_of: dict[Node, float] = {}
        for logprob, part in self.beginnings:
            outcomes = self._outcomes(part)
            share = logprob - float(np.log(len(outcomes)))
            for outcome in outcomes:
                logprob_of[outcome] = float(np.logaddexp(logprob_of.get(outcome, -np.inf), share))
        return logprob_of

    @property
    def steps(self) -> list[PathStep]:
        """The steps from the root to this node."""
        if self._above is None:
            return []
        parent, child = self._above
        logprob_of = parent.logprobs
        below = (each for each in (child, *logprob_of) if each is not parent.node)
        rank = next(below, child).rank
        logprobs = np.array(list(logprob_of.values()))
        return [*parent.steps, PathStep(child, rank, tuple(logprob_of), logprobs)]

    def divide(self, index: int, parts: Iterable[tuple[float, AnswerRange]]) -> None:
        """Put what a beginning may become in its place."""
        self.beginnings[index : index + 1] = parts
        self._best = self._logprobs = None

    def follow(self, child: Node) -> _Fork:
        """Go on to a child, all of whose beginnings are its own."""
        self._followed.add(child)
        self._best = None
        logprob_of_child = self.logprobs[child]
        own = [
            (logprob - logprob_of_child, part)
            for logprob, part in self.beginnings
            if self._outcomes(part) == (child,)
        ]
        return _Fork(self._answers, self._rules, own, above=(self, child))

    def _outcomes(self, part: AnswerRange) -> tuple[Node, ...]:
        return self._answers.outcomes(part, self.depth)

    def _open_outcomes(self, part: AnswerRange) -> Sequence[Node]:
        outcomes = self._outcomes(part)
        if self._rules.restriction is None and not self._followed:
            return outcomes
        return [
            outcome
            for outcome in outcomes
            if outcome not in self._followed and self._rules.allows(self.node, outcome)
        ]


class _Search:
    """Asks the model about the forks of one image."""

    def __init__(self, answers: OpenAnswers, prepared: PreparedSample, rules: PathRules) -> None:
        self._answers, self._prepared = answers, prepared
        self.root = _Fork(answers, rules, [(0.0, answers.all)])

    def best_child(self, fork: _Fork) -> Conversation[Node]:
        """Find the most probable child; it shares no beginning with another one then."""
        while (best := fork.best).shared is not None:
            yield from self.split(fork, best.shared)
        return best.child

    def split(self, fork: _Fork, index: int) -> Conversation[None]:
        """Ask how a beginning goes on."""
        logprob, part = fork.beginnings[index]
        branch = self._answers.branch(part)
        (answer,) = yield from ask(
            [Ask(self._prepared.prompt(branch.prefix_ids), branch.token_ids)]
        )
        logprobs = answer.option_logprobs.astype(np.float64)
        logprobs = logprob + logprobs - np.logaddexp.reduce(logprobs)
        fork.divide(index, zip(logprobs.tolist(), branch.ranges, strict=True))
