"""Open naming as a conversation: a model names the path of an image, and only paths can be named.

The tokens that a taxonomy leaves no choice about are appended; the model is asked for the others
alone, with the tokens that may follow in place of letters (:mod:`sekd.models.open_naming`). The
first request computes the prompt, and each later one a few tokens.
"""

from __future__ import annotations

from heapq import heapify
from typing import TypeAlias

import numpy as np

from sekd.data.taxonomy import Node
from sekd.engines import Ask, Conversation, ask
from sekd.models.open_naming import AnswerRange, OpenAnswers
from sekd.stages.answers import PathStep
from sekd.stages.prepare import PreparedSample

_Beginnings: TypeAlias = list[tuple[float, AnswerRange]]
"""A heap of beginnings of answers, each with its negative log-probability, so the most probable one
comes first. Together they have probability 1."""


def name_path(answers: OpenAnswers, prepared: PreparedSample) -> Conversation[list[PathStep]]:
    """Go down the taxonomy, at each node to its most probable child.

    The probability of a token is the model's, renormalised over the tokens that may follow. That of
    a child is the product over the tokens of its name at which the model had a choice, and that of
    a path the product over its nodes. A single child has probability 1 and costs no call. Where a
    leaf has children, ending there is one of the choices.

    Returns:
        One step for each node of the path, and one that ends it at a leaf with children.
    """
    steps: list[PathStep] = []
    node = answers.taxonomy.root
    beginnings: _Beginnings = [(0.0, answers.all)]
    while True:
        outcomes = {each for _, part in beginnings for each in answers.outcomes(part, len(steps))}
        if outcomes == {node}:
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

    Beginnings are continued best first, so the first one with a single outcome is the most probable
    of all. The others are not asked about: the probability of a beginning that several outcomes
    share is divided evenly among them. That of the chosen outcome is exact, and none is above it.

    The answers with one outcome stand together, except where two children are written with the same
    tokens, or where the tokens of a name depend on the lines behind it. There, an outcome has
    several beginnings; all of the chosen one's are continued.
    """
    while True:
        outcomes = answers.outcomes(beginnings[0][1], depth)
        shared = [
            index
            for index, (_, part) in enumerate(beginnings)
            if outcomes[0] in answers.outcomes(part, depth)
            and len(answers.outcomes(part, depth)) > 1
        ]
        if len(outcomes) == 1 and not shared:
            break
        surprise, part = beginnings.pop(shared[0] if len(outcomes) == 1 else 0)
        branch = answers.branch(part)
        (answer,) = yield from ask([Ask(prepared.prompt(branch.prefix_ids), branch.token_ids)])
        logprobs = answer.option_logprobs.astype(np.float64)
        logprobs -= np.logaddexp.reduce(logprobs)
        beginnings += zip((surprise - logprobs).tolist(), branch.ranges, strict=True)
        heapify(beginnings)
    node = outcomes[0]
    logprob_of: dict[Node, float] = {}
    for surprise, part in beginnings:
        sharing = answers.outcomes(part, depth)
        for outcome in sharing:
            share = -surprise - np.log(len(sharing))
            logprob_of[outcome] = float(np.logaddexp(logprob_of.get(outcome, -np.inf), share))
    rank = next(outcome.rank for outcome in (node, *logprob_of) if outcome.depth > depth)
    step = PathStep(node, rank, tuple(logprob_of), np.array(list(logprob_of.values())))
    chosen = [
        (surprise + logprob_of[node], part)
        for surprise, part in beginnings
        if answers.outcomes(part, depth) == (node,)
    ]
    heapify(chosen)
    return step, chosen
