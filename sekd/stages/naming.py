"""Open naming as a conversation: a model names the path of an image, and only paths can be named.

The tokens that a taxonomy leaves no choice about are appended; the model is asked for the others
alone, with the tokens that may follow in place of letters (:mod:`sekd.models.open_naming`). The
first request computes the prompt, and each later one a few tokens.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from sekd.data.taxonomy import Node
from sekd.engines import Ask, Conversation, ask
from sekd.models.open_naming import AnswerRange, OpenAnswers
from sekd.stages.answers import PathStep
from sekd.stages.prepare import PreparedSample

_Beginnings: TypeAlias = dict[AnswerRange, float]
"""Beginnings of answers with their log-probabilities. They share no answer, and together they have
probability 1."""


def name_path(answers: OpenAnswers, prepared: PreparedSample) -> Conversation[list[PathStep]]:
    """Go down the taxonomy, at each node to its most probable child.

    The probability of a token is the model's, renormalised over the tokens that may follow. That of
    an answer is the product over the tokens at which the model had a choice. That of a child is the
    sum over all answers that pass it, given that they pass its parent, and that of a path the
    product over its nodes. A single child has probability 1 and costs no call. Where a leaf has
    children, ending there is one of the choices.

    Returns:
        One step for each node of the path, and one that ends it at a leaf with children.
    """
    steps: list[PathStep] = []
    node = answers.taxonomy.root
    beginnings: _Beginnings = {answers.all: 0.0}
    while True:
        if _outcomes(answers, beginnings, len(steps)) == [node]:
            return steps
        step, beginnings = yield from _choose(answers, prepared, beginnings, len(steps))
        steps.append(step)
        if step.node is node:
            return steps
        node = step.node


def _choose(
    answers: OpenAnswers, prepared: PreparedSample, beginnings: _Beginnings, depth: int
) -> Conversation[tuple[PathStep, _Beginnings]]:
    """Find the most probable outcome below a node, and the beginnings that lead to it.

    Beginnings are continued, the most probable first, until the probability of the chosen outcome
    is exact and no other one can have more. Nothing else is asked about: in the distribution of the
    step, a beginning that several outcomes still share is divided evenly among them.

    Most outcomes have one beginning. A leaf with children has two where its name is the beginning
    of another name: there the answer ends, goes on with the next line, or is that other name. Two
    children that are written with the same tokens have several, and so has a name whose last tokens
    depend on the line behind it. An outcome has the probability of all its beginnings.
    """
    while True:
        node, open_ones = _leader(answers, beginnings, depth)
        if not open_ones:
            break
        part = max(open_ones, key=beginnings.__getitem__)
        branch = answers.branch(part)
        (answer,) = yield from ask([Ask(prepared.prompt(branch.prefix_ids), branch.token_ids)])
        logprobs = answer.option_logprobs.astype(np.float64)
        logprobs += beginnings.pop(part) - np.logaddexp.reduce(logprobs)
        beginnings = beginnings | dict(zip(branch.ranges, logprobs.tolist(), strict=True))
    logprob_of: dict[Node, float] = dict.fromkeys(_outcomes(answers, beginnings, depth), -np.inf)
    for part, logprob in beginnings.items():
        sharing = answers.outcomes(part, depth)
        for outcome in sharing:
            share = logprob - np.log(len(sharing))
            logprob_of[outcome] = float(np.logaddexp(logprob_of[outcome], share))
    rank = next(outcome.rank for outcome in (node, *logprob_of) if outcome.depth > depth)
    step = PathStep(node, rank, tuple(logprob_of), np.array(list(logprob_of.values())))
    chosen = {
        part: logprob - logprob_of[node]
        for part, logprob in beginnings.items()
        if answers.outcomes(part, depth) == (node,)
    }
    return step, chosen


def _leader(
    answers: OpenAnswers, beginnings: _Beginnings, depth: int
) -> tuple[Node, list[AnswerRange]]:
    """Find the outcome that is known to be most probable so far, and what could change that.

    Returns:
        The outcome, and the beginnings that it shares with others, or that are shared by another
        one which would have more if all that it shares were its own.
    """
    known: dict[Node, float] = dict.fromkeys(_outcomes(answers, beginnings, depth), 0.0)
    highest = dict(known)
    shared = []
    for part, logprob in beginnings.items():
        outcomes, probability = answers.outcomes(part, depth), float(np.exp(logprob))
        for outcome in outcomes:
            highest[outcome] += probability
        if len(outcomes) == 1:
            known[outcomes[0]] += probability
        else:
            shared.append(part)
    leader = max(known, key=known.__getitem__)
    rivals = {each for each in known if each is leader or highest[each] > known[leader]}
    return leader, [part for part in shared if not rivals.isdisjoint(answers.outcomes(part, depth))]


def _outcomes(answers: OpenAnswers, beginnings: _Beginnings, depth: int) -> list[Node]:
    """Return the outcomes of all beginnings, each once."""
    parts = (answers.outcomes(part, depth) for part in beginnings)
    return list(dict.fromkeys(outcome for outcomes in parts for outcome in outcomes))
