"""The ways to ask about a sample, as conversations.

============  =============  ====================================================
paradigm      calls / image  what a call sees
============  =============  ====================================================
joint         1              all levels' questions; one free generation
joint_forced  L              all levels' questions and the lines already answered
independent   L              one level's question, nothing else
conditioned   L              one level's question and the answers already given
open          a few          no options; the beginnings of the names
descent       L or more      the children of the last answer, and the answers so far
============  =============  ====================================================

The calls of ``joint_forced`` share the prompt, so each of them computes one line of the reply.
"""

from __future__ import annotations

from dataclasses import replace

from sekd.config import DescentSpec, ElicitSpec, Paradigm
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.engines import Ask, Conversation, Write, ask, write
from sekd.errors import SampleError
from sekd.models.chat import Chat, DialogueTurn, TokenIds
from sekd.models.open_naming import OpenAnswers
from sekd.models.prompts import ParsedAnswer, find_joint_answers
from sekd.models.wording import load_wording
from sekd.stages.answers import (
    LetterPosition,
    LevelAnswer,
    PathStep,
    SampleAnswers,
    average_orders,
    probability_of,
    score_path,
)
from sekd.stages.descent import descend
from sekd.stages.naming import follow_paths
from sekd.stages.prepare import PreparedSample
from sekd.stages.walk import ask_letters, walk


def run_paradigm(
    paradigm: Paradigm, chat: Chat, dataset: Dataset, prepared: PreparedSample, teacher: ElicitSpec
) -> Conversation[SampleAnswers]:
    """Ask all questions of a sample.

    Args:
        teacher: how the conditioned paradigm walks.
    """
    if paradigm == "joint":
        return _ask_jointly(chat, dataset, prepared)
    if paradigm == "joint_forced":
        return _ask_letters_alone(chat, dataset, prepared)
    if paradigm == "independent":
        return _ask_independently(chat, prepared)
    return walk(chat, dataset, prepared, teacher)


def reason_against(paradigm: Paradigm, dataset: Dataset) -> str | None:
    """Return why a paradigm makes no sense on a dataset, or ``None`` where it does."""
    if paradigm == "joint_forced" and not load_wording(dataset.spec.wording).has_letters:
        return "replies of its wording hold no letters to choose"
    return None


def descend_to_score(
    chat: Chat, dataset: Dataset, prepared: PreparedSample, spec: DescentSpec, teacher: ElicitSpec
) -> Conversation[SampleAnswers]:
    """Descend with a labelled sample; no model is told its label.

    Raises:
        SampleError: if the sample has no label to score with.
    """
    sample = prepared.sample
    if sample.leaf is None:
        raise SampleError("it has no label to score with")
    descent = yield from descend(chat, dataset, prepared, spec, teacher)
    steps = [
        PathStep(level.node, level.rank, level.children, level.logprobs)
        for level in descent.paths[0].levels
    ]
    paths = [(path.leaf, path.probability) for path in descent.paths] if spec.beam > 1 else []
    return score_path(sample.id, steps, dataset.taxonomy.path(sample.leaf), paths)


def name_to_score(
    answers: OpenAnswers, prepared: PreparedSample, num_paths: int = 1
) -> Conversation[SampleAnswers]:
    """Let the model name the path of a labelled sample; no model is told its label.

    Args:
        num_paths: 1 goes to the best child of every node; more find the most probable paths of all,
            the first of which is scored.

    Raises:
        SampleError: if the sample has no label to score with.
    """
    sample = prepared.sample
    if sample.leaf is None:
        raise SampleError("it has no label to score with")
    found = yield from follow_paths(answers, prepared, num_paths)
    paths = [(steps[-1].node, probability_of(steps)) for steps in found] if num_paths > 1 else ()
    return score_path(sample.id, found[0], answers.taxonomy.path(sample.leaf), paths)


def _ask_jointly(
    chat: Chat, dataset: Dataset, prepared: PreparedSample
) -> Conversation[SampleAnswers]:
    questions = prepared.questions or ()
    prompt = chat.joint_prompt(questions, dataset.taxonomy.root)
    max_new_tokens = chat.max_joint_tokens(questions)
    reply = yield from write(Write(prepared.prompt(prompt), max_new_tokens, chat.stop_id))
    text = chat.decode(reply.token_ids)
    parsed = find_joint_answers(text, questions, chat.wording)
    levels = [
        LevelAnswer(question, choice=None, reply=text)
        if answer is None
        else LevelAnswer(
            question,
            choice=answer.choice,
            reply=text,
            letter=_find_letter(chat, question, prompt, reply.token_ids, answer),
        )
        for question, answer in zip(questions, parsed, strict=True)
    ]
    return SampleAnswers(prepared.sample.id, tuple(levels))


def _ask_letters_alone(
    chat: Chat, dataset: Dataset, prepared: PreparedSample
) -> Conversation[SampleAnswers]:
    """Ask all questions at once, but write the reply for the model, except for its letters.

    Each letter is chosen in the place where the student learns to write it, after the lines of the
    model's own earlier choices.
    """
    questions = prepared.questions or ()
    levels: list[LevelAnswer] = []
    turn: DialogueTurn | None = None
    for question in questions:
        if turn is None:
            turn = chat.first_line(questions, dataset.taxonomy.root)
        else:
            turn = chat.next_line(turn, levels[-1].choice or 0, question)
        letter_ids = chat.joint_letter_ids(question)[: len(question.options)]
        (answer,) = yield from ask([Ask(prepared.prompt(turn.token_ids), letter_ids)])
        levels.append(
            LevelAnswer(
                question,
                choice=answer.choice,
                option_logprobs=answer.option_logprobs,
                mean_logprobs=answer.option_logprobs,
                num_prompt_tokens=answer.num_prompt_tokens,
                num_cached_tokens=answer.num_cached_tokens,
            )
        )
    return SampleAnswers(prepared.sample.id, tuple(levels))


def _find_letter(
    chat: Chat, question: Question, prompt: TokenIds, reply: TokenIds, parsed: ParsedAnswer
) -> LetterPosition | None:
    """Find the token of a parsed letter: it is a letter's, and its text ends where the letter does.

    The letter of a joint answer's line may be another token than that of a dialogue; both count.
    """
    if parsed.offset is None:
        return None
    for letter_ids in (chat.joint_letter_ids(question), chat.letter_ids):
        for index, token in enumerate(reply):
            if token != letter_ids[parsed.choice]:
                continue
            if len(chat.decode(reply[: index + 1])) == parsed.offset + 1:
                prefix_ids = (*prompt, *reply[:index])
                return LetterPosition(prefix_ids, letter_ids[: len(question.options)])
    return None


def _ask_independently(chat: Chat, prepared: PreparedSample) -> Conversation[SampleAnswers]:
    turns = [chat.first_turn(question, []) for question in prepared.questions or ()]
    responses = yield from ask_letters(chat, prepared, turns)
    levels = [
        average_orders([turn], [response]) for turn, response in zip(turns, responses, strict=True)
    ]
    return SampleAnswers(prepared.sample.id, tuple(levels))


def measure_letters(
    prepared: PreparedSample, answers: SampleAnswers
) -> Conversation[SampleAnswers]:
    """Measure the distribution over the options at each letter of a free reply.

    It stays unknown where the letter was not found, or where the model does not take the prompt.
    """
    letters = [
        (index, answer.letter)
        for index, answer in enumerate(answers.levels)
        if answer.letter is not None
    ]
    if not letters:
        return answers
    requests = [Ask(prepared.prompt(letter.prefix_ids), letter.option_ids) for _, letter in letters]
    try:
        responses = yield from ask(requests)
    except SampleError:
        return answers
    levels = list(answers.levels)
    for (index, _), response in zip(letters, responses, strict=True):
        logprobs = response.option_logprobs
        levels[index] = replace(levels[index], option_logprobs=logprobs, mean_logprobs=logprobs)
    return replace(answers, levels=tuple(levels))
