"""Walk through the questions of a sample, level by level, each after the answers before it.

The teacher's elicitation and the conditioned paradigm of evaluation are this same walk. A descent
(:mod:`sekd.stages.descent`) asks its questions as a walk does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TypeAlias

from sekd.config import ElicitSpec, PlainSpec
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Node
from sekd.engines import Answer, Ask, Conversation, Write, ask, write
from sekd.errors import SampleError
from sekd.models.chat import Chat, DialogueTurn, Transcript
from sekd.stages.answers import LevelAnswer, SampleAnswers, average_orders
from sekd.stages.prepare import PreparedSample

AnsweredTurn: TypeAlias = tuple[DialogueTurn, int]
"""The last turn of a growing dialogue, and the index of the option that was its answer."""


def walk(
    chat: Chat, dataset: Dataset, prepared: PreparedSample, spec: ElicitSpec
) -> Conversation[SampleAnswers]:
    """Ask about every level of a sample, from the first level below the root.

    A level with one option is not asked about: its node is known, and is a fact of later questions.

    Raises:
        SampleError: if there is no level to ask about.
    """
    answers: list[LevelAnswer] = []
    known = known_root(dataset)
    transcripts: list[Transcript] = []
    last: AnsweredTurn | None = None
    for question in prepared.questions or ():
        if question.is_given:
            known.append(question.options[0])
            continue
        turn, answer = yield from ask_next(chat, prepared, question, known, last, spec.permutations)
        assert answer.node is not None and answer.choice is not None  # noqa: PT018
        answers.append(answer)
        known.append(answer.node)
        if spec.style == "facts":
            transcripts.append(chat.close(turn, answer.choice))
        else:
            last = turn, answer.choice
    if not answers:
        raise SampleError("there is no level below the root to ask about")
    if last is not None:
        transcripts.append(chat.close(*last))
    return SampleAnswers(prepared.sample.id, tuple(answers), tuple(transcripts))


def known_root(dataset: Dataset) -> list[Node]:
    """Return what is known before the first question: the root, if it has a name."""
    root = dataset.taxonomy.root
    return [root] if root.name else []


def ask_next(
    chat: Chat,
    prepared: PreparedSample,
    question: Question,
    known: Sequence[Node],
    last: AnsweredTurn | None,
    permutations: int,
) -> Conversation[tuple[DialogueTurn, LevelAnswer]]:
    """Ask one question, in one or several orders of its options.

    Args:
        known: the facts that a first question states.
        last: the turn that the question continues; ``None`` makes it a first question.

    Returns:
        The turn with the options in the question's own order, and the answer.
    """
    turns = [
        chat.first_turn(order, known) if last is None else chat.next_turn(*last, order)
        for order in _rotations(question, permutations)
    ]
    responses = yield from ask_letters(chat, prepared, turns)
    return turns[0], average_orders(turns, responses)


def ask_letters(
    chat: Chat, prepared: PreparedSample, turns: Sequence[DialogueTurn]
) -> Conversation[list[Answer]]:
    """Ask for the letter that comes after each turn."""
    return ask(
        [
            Ask(
                prepared.prompt(turn.token_ids),
                chat.letter_ids[: len(turn.question.options)],
                right=turn.question.right,
            )
            for turn in turns
        ]
    )


def reply_plainly(
    chat: Chat, prepared: PreparedSample, spec: PlainSpec
) -> Conversation[tuple[Transcript, ...]]:
    """Let the model reply to a plain prompt about the image, without a taxonomy.

    The sample's id decides whether it belongs to the share that is asked, and which prompt it gets.
    A reply is cut before the first token that is not text, such as an image placeholder: it could
    not be written again in a transcript.

    Returns:
        One transcript, or none where the sample is not asked or the reply begins with such a token.
    """
    rng = random.Random(f"plain:{prepared.sample.id}")
    if not spec.prompts or rng.random() >= spec.share:
        return ()
    prompt = Transcript().with_context(chat.plain_prompt(rng.choice(spec.prompts)))
    reply = yield from write(
        Write(prepared.prompt(prompt.token_ids), spec.max_new_tokens, chat.stop_id)
    )
    words = tuple(takewhile(lambda token: token not in chat.special_ids, reply.token_ids))
    is_cut = len(words) < len(reply.token_ids) or len(words) == spec.max_new_tokens
    target = words if is_cut else (*words, *chat.end_ids)
    return (prompt.with_target(target),) if target else ()


def _rotations(question: Question, num_orders: int) -> list[Question]:
    """Rotate the options by even steps; the first order is the question's own."""
    options = question.options
    num_orders = min(num_orders, len(options))
    shifts = [index * len(options) // num_orders for index in range(num_orders)]
    return [replace(question, options=(*options[shift:], *options[:shift])) for shift in shifts]
