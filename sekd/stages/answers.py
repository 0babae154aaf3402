"""The answers of a model, before they become rows on disk.

Elicitation and all paradigms of evaluation give a :class:`SampleAnswers` for each sample, with a
:class:`LevelAnswer` for each question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sekd.data.questions import Question
from sekd.data.taxonomy import Node
from sekd.engines import Answer
from sekd.models.chat import DialogueTurn, TokenIds, Transcript


@dataclass(frozen=True)
class LetterPosition:
    """The place of an answer's letter in a free reply.

    Attributes:
        prefix_ids: all tokens before the letter, those of the prompt included.
        option_ids: the token that each option's letter would be in that place.
    """

    prefix_ids: TokenIds
    option_ids: TokenIds


@dataclass(frozen=True)
class LevelAnswer:
    """A model's answer to the question of one level.

    Attributes:
        question: with the options as they are shown in the transcript.
        choice: index of the chosen option; ``None`` where a free reply could not be parsed.
        option_logprobs: float32 [num_options], over the whole vocabulary; ``None`` where they are
            not known.
        mean_logprobs: float32 [num_options], the log of the mean probability over all orders of
            the options that were asked. With a single order it equals ``option_logprobs``.
        num_prompt_tokens, num_cached_tokens: sums over the requests of this level; 0 where all
            levels share one request.
        reply: the whole text of a free reply.
        letter: position of the letter in a free reply; ``None`` where none of its tokens is an
            option's letter.
        path_logprob: log-probability of the whole path of answers down to here, where the paradigm
            gives one.
        ended: the last node of a path that ends above this level, which has no options then.
    """

    question: Question
    choice: int | None
    option_logprobs: NDArray[np.float32] | None = None
    mean_logprobs: NDArray[np.float32] | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    reply: str | None = None
    letter: LetterPosition | None = None
    path_logprob: float | None = None
    ended: Node | None = None

    @property
    def node(self) -> Node | None:
        """The chosen node; ``None`` where the reply could not be parsed."""
        if self.ended is not None:
            return self.ended
        return None if self.choice is None else self.question.options[self.choice]


@dataclass(frozen=True)
class SampleAnswers:
    """A model's answers about one sample.

    Attributes:
        levels: one answer per level that was asked about, from the first level below the root.
        transcripts: of a walk: one of the whole dialogue, or in the ``facts`` style one per level.
        paths: of a beam: the most probable paths, by their last nodes, with their probabilities.
    """

    sample_id: str
    levels: tuple[LevelAnswer, ...]
    transcripts: tuple[Transcript, ...] = ()
    paths: tuple[tuple[Node, float], ...] = ()


def with_given(answers: SampleAnswers, questions: Sequence[Question]) -> SampleAnswers:
    """Add the levels whose questions have one option: their answer is known without asking."""
    asked = {answer.question.level: answer for answer in answers.levels}
    certain = np.zeros(1, dtype=np.float32)
    levels = [
        LevelAnswer(question, 0, option_logprobs=certain, mean_logprobs=certain)
        if question.is_given
        else asked[question.level]
        for question in questions
    ]
    return replace(answers, levels=tuple(levels))


def average_orders(turns: Sequence[DialogueTurn], responses: Sequence[Answer]) -> LevelAnswer:
    """Make one answer from the responses to a question in one or several orders of its options.

    The option with the highest mean probability is the answer; of equals, the first one.

    Args:
        turns: the same options in several orders; the first order is that of the transcript.
        responses: one for each turn.
    """
    question, shown = turns[0].question, responses[0].option_logprobs
    mean_logprobs = shown if len(turns) == 1 else _mean_logprobs(turns, responses)
    return LevelAnswer(
        question=question,
        choice=int(mean_logprobs.argmax()),
        option_logprobs=shown,
        mean_logprobs=mean_logprobs,
        num_prompt_tokens=sum(response.num_prompt_tokens for response in responses),
        num_cached_tokens=sum(response.num_cached_tokens for response in responses),
    )


def _mean_logprobs(
    turns: Sequence[DialogueTurn], responses: Sequence[Answer]
) -> NDArray[np.float32]:
    """Average probabilities by node; float32 [num_options], in the order of the first turn."""
    by_node = [
        dict(zip(turn.question.options, response.option_logprobs, strict=True))
        for turn, response in zip(turns, responses, strict=True)
    ]
    logprobs = np.array(
        [[order[node] for order in by_node] for node in turns[0].question.options],
        dtype=np.float64,
    )
    sums = np.logaddexp.reduce(logprobs, axis=1)
    return (sums - np.log(len(turns))).astype(np.float32)


@dataclass(frozen=True, eq=False)
class PathStep:
    """One step of a path that a model found in the taxonomy, without a quiz.

    Attributes:
        node: where the path goes on; its parent again where a path ends at a leaf with children.
        children: the nodes at which it could go on.
        logprobs: float [children], which are those of a distribution over the children.
    """

    node: Node
    rank: str
    children: tuple[Node, ...]
    logprobs: NDArray[np.floating]


def probability_of(steps: Sequence[PathStep]) -> float:
    """Return the probability of a whole path: the product over its steps."""
    return float(np.exp(sum(step.logprobs[step.children.index(step.node)] for step in steps)))


def score_path(
    sample_id: str,
    steps: Sequence[PathStep],
    truth: Sequence[Node],
    paths: Sequence[tuple[Node, float]] = (),
) -> SampleAnswers:
    """Make one answer for each level of the right path from the steps of a path of the taxonomy.

    Steps below the right leaf are left out, as in ``sekd score``. Where the path ends above a
    level, its last node stands for it, which is wrong there and no fault of the form.

    Args:
        steps: from the first level below the root.
        truth: the right nodes, from the first level below the root.
        paths: the most probable paths, by their last nodes.
    """
    levels: list[LevelAnswer] = []
    path_logprob = 0.0
    for index, right in enumerate(truth):
        level = index + 1
        if index < len(steps):
            step = steps[index]
            choice = step.children.index(step.node)
            path_logprob += float(step.logprobs[choice])
            question = Question(level, step.children, right, step.rank)
            logprobs = step.logprobs.astype(np.float32)
            answer = LevelAnswer(question, choice, mean_logprobs=logprobs)
        else:
            ended = steps[-1].node
            answer = LevelAnswer(Question(level, (), right, right.rank), None, ended=ended)
        levels.append(replace(answer, path_logprob=path_logprob))
    return SampleAnswers(sample_id, tuple(levels), paths=tuple(paths))
