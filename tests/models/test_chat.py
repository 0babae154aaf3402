"""Dialogues and joint prompts as token ids, for two tokenizers."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from sekd.data.questions import LETTERS, Question
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.models.chat import Chat, DialogueTurn

ANSWERS = [1, 0, 1]


def walk(chat: Chat, questions: list[Question], taxonomy: Taxonomy) -> list[DialogueTurn]:
    turns = [chat.first_turn(questions[0], [taxonomy.root])]
    for answer, question in zip(ANSWERS, questions[1:], strict=False):
        turns.append(chat.next_turn(turns[-1], answer, question))
    return turns


def test_a_dialogue_grows_by_appending(
    chat: Chat, questions: list[Question], taxonomy: Taxonomy
) -> None:
    turns = walk(chat, questions, taxonomy)
    for before, after in pairwise(turns):
        assert after.token_ids[: len(before.token_ids)] == before.token_ids
    transcript = chat.close(turns[-1], ANSWERS[-1])
    assert transcript.token_ids[: len(turns[-1].token_ids)] == turns[-1].token_ids


def test_letters_stand_where_the_positions_say(
    chat: Chat, questions: list[Question], taxonomy: Taxonomy
) -> None:
    turns = walk(chat, questions, taxonomy)
    transcript = chat.close(turns[-1], ANSWERS[-1])
    assert transcript.positions == tuple(len(turn.token_ids) for turn in turns)
    letters = [chat.decode([transcript.token_ids[p]]).strip() for p in transcript.positions]
    assert letters == [LETTERS[answer] for answer in ANSWERS]


def test_a_dialogue_names_the_facts(
    chat: Chat, questions: list[Question], taxonomy: Taxonomy
) -> None:
    """Known facts are node names: the root in the first turn, answers in the assistant's turns."""
    text = walk(chat, questions, taxonomy)[-1].text
    assert "(kingdom: animalia)" in text
    assert f"B. {questions[0].options[1].name}" in text.split("what is the class")[0]


@pytest.mark.parametrize("form", ["dialogue", "joint"])
def test_the_targets_are_what_the_model_writes(
    chat: Chat, questions: list[Question], taxonomy: Taxonomy, form: str
) -> None:
    if form == "joint":
        transcript = chat.joint_transcript(questions, ANSWERS, taxonomy.root)
    else:
        transcript = chat.close(walk(chat, questions, taxonomy)[-1], ANSWERS[-1])
    assert all(transcript.is_target[position] for position in transcript.positions)
    pairs = zip(transcript.token_ids, transcript.is_target, strict=True)
    written = [token for token, is_target in pairs if is_target]
    text = "".join(chat.decode(written).split())
    names = [q.options[a].name.replace(" ", "") for q, a in zip(questions, ANSWERS, strict=True)]
    prefixes = [f"{question.rank}:" if form == "joint" else "" for question in questions]
    lines = [f"{p}{LETTERS[a]}.{n}" for p, a, n in zip(prefixes, ANSWERS, names, strict=True)]
    if "<unk>" not in chat.tokenizer.get_vocab():  # the tiny model's vocabulary lacks "gull"
        assert text == "".join(lines)
    ends = 1 if form == "joint" else len(questions)
    assert sum(token == chat.end_ids[0] for token in written) == ends


def test_a_joint_transcript_continues_its_prompt(
    chat: Chat, questions: list[Question], taxonomy: Taxonomy
) -> None:
    prompt = chat.joint_prompt(questions, taxonomy.root)
    transcript = chat.joint_transcript(questions, ANSWERS, taxonomy.root)
    assert transcript.token_ids[: len(prompt)] == prompt
    assert not any(transcript.is_target[: len(prompt)])
    assert all(transcript.is_target[len(prompt) :])
    for question, answer, position in zip(questions, ANSWERS, transcript.positions, strict=True):
        assert transcript.token_ids[position] == chat.joint_letter_ids(question)[answer]
    assert len(transcript.token_ids) - len(prompt) <= chat.max_joint_tokens(questions)


def test_a_letter_may_be_another_token_behind_a_space(
    bpe_processor: Callable[..., Any], questions: list[Question]
) -> None:
    chat = Chat(bpe_processor(), subject="organism")
    assert not set(chat.letter_ids) & set(chat.joint_letter_ids(questions[0]))
    assert chat.decode(chat.joint_letter_ids(questions[0])[1:2]) == " B"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{{ messages[0]['role'] }}", "0 image placeholders"),
        ("<image><image>x", "2 image placeholders"),
    ],
)
def test_templates_without_exactly_one_image_are_refused(
    bpe_processor: Callable[..., Any], template: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Chat(bpe_processor(template), subject="organism")


def test_a_template_that_rewrites_earlier_turns_only_adds_to_the_dialogue(
    bpe_processor: Callable[..., Any], questions: list[Question]
) -> None:
    """Templates that drop a model's reasoning when the next turn begins rewrite earlier turns."""
    template = (
        "{{ messages | length }}<image>{% for m in messages %}{{ m['content'][-1]['text'] }}"
        "<|im_end|>{% endfor %}"
    )
    chat = Chat(bpe_processor(template), subject="organism")
    turn = chat.first_turn(questions[0], [])
    following = chat.next_turn(turn, 0, questions[1])
    assert following.token_ids[: len(turn.token_ids)] == turn.token_ids


def test_letters_of_several_tokens_are_refused(bpe_processor: Callable[..., Any]) -> None:
    processor = bpe_processor()
    processor.tokenizer.add_tokens(["\nA"])
    with pytest.raises(ConfigError, match="as one token of its own"):
        Chat(processor, subject="organism")


@pytest.mark.parametrize("text", ["a <image> bird", "<|im_end|>", "x<fake_token_around_image>"])
def test_texts_with_special_tokens_are_refused_by_name(
    bpe_processor: Callable[..., Any], text: str
) -> None:
    taxonomy = Taxonomy.from_paths({"gull": ["animalia", text]}, source="t.json")
    chat = Chat(bpe_processor(), subject="organism")
    with pytest.raises(ConfigError, match=rf"t.json: the name .*{re.escape(text)}.* special token"):
        chat.refuse_special_names(taxonomy)
    with pytest.raises(ConfigError, match=r"the subject .* special token"):
        Chat(bpe_processor(), subject=text)


def test_a_name_in_angle_brackets_is_text(bpe_processor: Callable[..., Any]) -> None:
    chat = Chat(bpe_processor(), subject="organism")
    chat.refuse_special_tokens("Gull <juvenile>", "the name")
