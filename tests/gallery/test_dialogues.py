"""Every real chat template with every real tokenizer: dialogues and joint prompts, without a model.

The token ids of each prompt and transcript must be those that the tokenizer itself makes of the
whole text, and no template that people use may be refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gallery_templates import VisionTemplate, vision_templates
from gallery_tokenizers import available_kinds, build_tokenizer

from sekd.data.questions import LETTERS, Question
from sekd.data.taxonomy import Taxonomy
from sekd.models.chat import Chat, DialogueTurn

SPECIAL = re.compile(r"<\|?/?[a-zA-Z][a-zA-Z0-9_]*\|?>|\[/?[A-Z_]+\]")
OPEN_REASONING = re.compile(r"<think>\s*$|\[THINK\]\s*$")
NO_BOS = {"qwen"}


@pytest.fixture(scope="session", params=available_kinds())
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """A whole real vocabulary that knows the special tokens of all templates."""
    kind = str(request.param)
    special = {token for template in vision_templates() for token in SPECIAL.findall(template.text)}
    special |= {template.image or "<image>" for template in vision_templates()}
    return build_tokenizer(kind, sorted(special), adds_bos=kind not in NO_BOS)


def processor_of(template: VisionTemplate, tokenizer: Any, **changes: Any) -> SimpleNamespace:
    """A processor as a hub repository has it whose template lies in tokenizer_config.json alone."""
    tokenizer.chat_template = template.text
    if "bos_token" in template.text and tokenizer.bos_token is None:
        tokenizer.bos_token = "<|endoftext|>"  # as Qwen's own config.json names it
    image_token = template.image or "<image>"
    values = {"tokenizer": tokenizer, "image_token": image_token, "chat_template": None}
    return SimpleNamespace(**{**values, **changes})


def whole(chat: Chat, text: str) -> tuple[int, ...]:
    """The ids of a rendered text as transformers' ``apply_chat_template`` makes them."""
    bos_token = chat.tokenizer.bos_token
    has_bos = bos_token is not None and text.startswith(bos_token)
    ids: list[int] = chat.tokenizer(text, add_special_tokens=not has_bos)["input_ids"]
    return tuple(ids)


def walk(chat: Chat, questions: list[Question], taxonomy: Taxonomy) -> Iterator[DialogueTurn]:
    """The turns of a dialogue in which option i is the answer to question i."""
    turn = chat.first_turn(questions[0], [taxonomy.root])
    yield turn
    for answer, question in enumerate(questions[1:]):
        turn = chat.next_turn(turn, answer, question)
        yield turn


@pytest.mark.parametrize("template", vision_templates(), ids=lambda template: template.name)
def test_a_template_carries_a_dialogue(
    template: VisionTemplate, tokenizer: Any, questions: list[Question], taxonomy: Taxonomy
) -> None:
    chat = Chat(processor_of(template, tokenizer), subject="organism")
    turns = list(walk(chat, questions, taxonomy))
    transcript = chat.close(turns[-1], len(questions) - 1)
    for answer, (turn, position) in enumerate(zip(turns, transcript.positions, strict=True)):
        assert transcript.token_ids[:position] == turn.token_ids
        assert transcript.token_ids[position] == chat.letter_ids[answer]
        assert chat.decode(transcript.token_ids[position : position + 1]).strip() == LETTERS[answer]
        assert not OPEN_REASONING.search(turn.text)
        assert whole(chat, turn.text + chat.answer_lead + "A")[:-1] == turn.token_ids
    written = [i for i, own in zip(transcript.token_ids, transcript.is_target, strict=True) if own]
    words = chat.decode(written)
    assert [name for name in words.split() if name in LETTERS] == []
    for question, answer in zip(questions, range(3), strict=True):
        assert f"{LETTERS[answer]}. {question.options[answer].name}" in words
    assert chat.image_prefix_ids == transcript.token_ids[: len(chat.image_prefix_ids)]


@pytest.mark.parametrize("template", vision_templates(), ids=lambda template: template.name)
def test_a_template_carries_a_joint_prompt(
    template: VisionTemplate, tokenizer: Any, questions: list[Question], taxonomy: Taxonomy
) -> None:
    chat = Chat(processor_of(template, tokenizer), subject="organism")
    prompt = chat.joint_prompt(questions, taxonomy.root)
    transcript = chat.joint_transcript(questions, [0, 1, 2], taxonomy.root)
    assert transcript.token_ids[: len(prompt)] == prompt
    assert not any(transcript.is_target[: len(prompt)])
    assert all(transcript.is_target[len(prompt) :])
    for answer, (question, position) in enumerate(
        zip(questions, transcript.positions, strict=True)
    ):
        assert transcript.token_ids[position] == chat.joint_letter_ids(question)[answer]
    line = chat.first_line(questions, taxonomy.root)
    for answer, position in enumerate(transcript.positions):
        assert line.token_ids == transcript.token_ids[:position]
        assert line.token_ids == whole(chat, line.text + "A")[:-1]
        if answer < 2:
            line = chat.next_line(line, answer, questions[answer + 1])
    written = chat.decode(transcript.token_ids[len(prompt) :])
    for answer, question in enumerate(questions):
        assert f"{question.rank}: {LETTERS[answer]}. {question.options[answer].name}" in written


@pytest.mark.parametrize("template", vision_templates(), ids=lambda template: template.name)
def test_facts_need_no_second_turn(
    template: VisionTemplate, tokenizer: Any, questions: list[Question], taxonomy: Taxonomy
) -> None:
    """A template that takes one user's turn and no more is enough for ``style: facts``."""
    once = "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
    processor = processor_of(template, tokenizer)
    processor.tokenizer.chat_template = once + template.text
    chat = Chat(processor, subject="organism")
    turn = chat.first_turn(questions[1], [taxonomy.root])
    transcript = chat.close(turn, 1)
    assert transcript.token_ids[: transcript.positions[0]] == turn.token_ids


class PythonTokenizer:
    """A tokenizer as one that is written in Python: it does not tell which characters it read."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_next", "idefics3"])
def test_a_tokenizer_without_offsets_gives_the_same_transcripts(
    name: str, tokenizer: Any, questions: list[Question], taxonomy: Taxonomy
) -> None:
    template = next(template for template in vision_templates() if template.name == name)
    processor = processor_of(template, tokenizer)
    transcripts = []
    for used in (tokenizer, PythonTokenizer(tokenizer)):
        processor.tokenizer = used
        chat = Chat(processor, subject="organism")
        *_, turn = walk(chat, questions, taxonomy)
        joint = chat.joint_transcript(questions, [0, 1, 2], taxonomy.root)
        transcripts.append((chat.close(turn, 2), joint))
    assert transcripts[0] == transcripts[1]
