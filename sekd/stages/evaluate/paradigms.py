"""The three ways to ask, as conversations about one picture: joint, independent, conditioned.

============  =============  ================================================
paradigm      calls / image  what a call sees
============  =============  ================================================
joint         1              all levels' questions; one free generation
independent   L              one level's question, nothing else
conditioned   L              one level's question and the answers already given
============  =============  ================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sekd.config import ElicitSpec, Paradigm
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.engines import Ask, Conversation, Write, ask, write
from sekd.errors import SampleError
from sekd.models.chat import Chat, TokenIds
from sekd.models.prompts import ParsedAnswer, find_joint_answers
from sekd.stages.walk import PreparedSample, walk


@dataclass(frozen=True)
class LetterPosition:
    """Where the letter of a free reply stands: all before it, and the tokens of all letters."""

    before: TokenIds
    option_ids: TokenIds


@dataclass(frozen=True)
class LevelAnswer:
    """What a model answered to one question.

    Attributes:
        choice: index of the option; ``None`` where the reply could not be parsed.
        option_logprobs: over the whole vocabulary; ``None`` where they are not known.
        reply: the whole text, of a free one.
        letter: of a free reply; ``None`` where it could not be found among the tokens.
    """

    question: Question
    choice: int | None
    option_logprobs: Sequence[float] | None = None
    reply: str | None = None
    letter: LetterPosition | None = None


def run_paradigm(
    paradigm: Paradigm, chat: Chat, dataset: Dataset, picture: PreparedSample, teacher: ElicitSpec
) -> Conversation[list[LevelAnswer]]:
    """Ask all questions of a picture.

    Args:
        teacher: how the conditioned paradigm walks.
    """
    if paradigm == "joint":
        return _joint(chat, dataset, picture)
    if paradigm == "independent":
        return _independent(chat, picture)
    return _conditioned(chat, dataset, picture, teacher)


def _joint(
    chat: Chat, dataset: Dataset, picture: PreparedSample
) -> Conversation[list[LevelAnswer]]:
    questions = picture.questions or ()
    prompt = chat.joint_prompt(questions, dataset.taxonomy.root)
    room = chat.max_joint_tokens(questions)
    reply = yield from write(Write(picture.prompt(prompt), room, chat.end_ids[0]))
    text = chat.decode(reply.token_ids)
    return [
        LevelAnswer(
            question,
            found and found.choice,
            reply=text,
            letter=found and _letter(chat, question, prompt, reply.token_ids, found),
        )
        for question, found in zip(questions, find_joint_answers(text, questions), strict=True)
    ]


def _letter(
    chat: Chat, question: Question, prompt: TokenIds, reply: TokenIds, found: ParsedAnswer
) -> LetterPosition | None:
    """The letter's token: one that is a letter's, and whose text ends where the letter does."""
    for letter_ids in (chat.joint_letter_ids(question), chat.letter_ids):
        for index, token in enumerate(reply):
            if (
                token == letter_ids[found.choice]
                and len(chat.decode(reply[: index + 1])) == found.offset + 1
            ):
                return LetterPosition(
                    (*prompt, *reply[:index]), letter_ids[: len(question.options)]
                )
    return None


def measure_letters(
    picture: PreparedSample, answers: Sequence[LevelAnswer]
) -> Conversation[list[LevelAnswer]]:
    """The same answers with the distribution at each letter of a free reply.

    It stays unknown where the letter was not found, or the model does not take the prompt.
    """
    known = [(answer, answer.letter) for answer in answers if answer.letter is not None]
    if not known:
        return list(answers)
    try:
        measured = yield from ask(
            [Ask(picture.prompt(letter.before), letter.option_ids) for _, letter in known]
        )
    except SampleError:
        return list(answers)
    logprobs = {
        id(answer): seen.option_logprobs.tolist()
        for (answer, _), seen in zip(known, measured, strict=True)
    }
    return [replace(answer, option_logprobs=logprobs.get(id(answer))) for answer in answers]


def _independent(chat: Chat, picture: PreparedSample) -> Conversation[list[LevelAnswer]]:
    turns = [chat.first_turn(question, []) for question in picture.questions or ()]
    answers = yield from ask(
        [
            Ask(picture.prompt(turn.token_ids), chat.letter_ids[: len(turn.question.options)])
            for turn in turns
        ]
    )
    return [
        LevelAnswer(turn.question, answer.choice, answer.option_logprobs.tolist())
        for turn, answer in zip(turns, answers, strict=True)
    ]


def _conditioned(
    chat: Chat, dataset: Dataset, picture: PreparedSample, teacher: ElicitSpec
) -> Conversation[list[LevelAnswer]]:
    dialogue = yield from walk(chat, dataset, picture, teacher)
    return [
        LevelAnswer(step.question, step.choice, step.mean_logprobs.tolist())
        for step in dialogue.steps
    ]
