"""Walk a sample down the taxonomy, one question per level, each below the answer before it.

The teacher's elicitation and the conditioned paradigm of evaluation are this same walk.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from sekd.config import ElicitSpec, PlainSpec
from sekd.data.questions import Question, walk_question
from sekd.data.samples import Dataset, Sample
from sekd.data.taxonomy import Node, Taxonomy
from sekd.engines import Answer, Ask, Conversation, Write, ask, write
from sekd.errors import SampleError
from sekd.models.chat import Chat, DialogueTurn, Transcript
from sekd.stages.answers import LevelAnswer, SampleAnswers, average_orders
from sekd.stages.prepare import PreparedSample


def walk(
    chat: Chat, dataset: Dataset, prepared: PreparedSample, spec: ElicitSpec
) -> Conversation[SampleAnswers]:
    """Ask about every level of a sample, from the first level below the root.

    Raises:
        SampleError: if there is no level to ask about, or a question cannot be asked.
    """
    answers: list[LevelAnswer] = []
    path: list[Node] = []
    transcripts: list[Transcript] = []
    root = dataset.taxonomy.root
    facts = [root] if root.name else []
    last: tuple[DialogueTurn, int] | None = None  # of a growing dialogue, and its answer
    while (question := _next_question(dataset, prepared, path)) is not None:
        turns = [
            chat.first_turn(order, [*facts, *path])
            if last is None
            else chat.next_turn(*last, order)
            for order in _rotations(question, spec.permutations)
        ]
        responses = yield from ask_letters(chat, prepared, turns)
        answer = average_orders(turns, responses)
        choice = answer.choice
        assert choice is not None  # only a free reply can lack a choice
        answers.append(answer)
        path.append(question.options[choice])
        if spec.style == "facts":
            transcripts.append(chat.close(turns[0], choice))
        else:
            last = turns[0], choice
    if not answers:
        raise SampleError("there is no level below the root to ask about")
    if last is not None:
        transcripts.append(chat.close(*last))
    return SampleAnswers(prepared.sample.id, tuple(answers), tuple(transcripts))


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


def _next_question(
    dataset: Dataset, prepared: PreparedSample, path: Sequence[Node]
) -> Question | None:
    """Return the question below the answers ``path``, or ``None`` behind the last level."""
    num_answered = len(path)
    if prepared.questions is not None:
        questions = prepared.questions
        return questions[num_answered] if num_answered < len(questions) else None
    taxonomy, sample = dataset.taxonomy, prepared.sample
    return walk_question(
        taxonomy,
        path[-1] if path else taxonomy.root,
        sample_id=sample.id,
        seed=dataset.spec.seed,
        truth=_true_node(taxonomy, sample, level=num_answered + 1),
    )


def _true_node(taxonomy: Taxonomy, sample: Sample, level: int) -> Node | None:
    """Return the right node of a level, or ``None`` without a label that reaches this level."""
    path = taxonomy.path(sample.leaf) if sample.leaf else []
    return path[level - 1] if level <= len(path) else None
