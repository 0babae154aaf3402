"""Turns into token ids, for any model with a processor and a chat template.

A dialogue is append-only in *token ids*: every turn's ids are those of the turn before plus new
ones, so that an engine can reuse its prefix and one teacher-forced pass sees what the engine saw.
Ids hold **one** image placeholder; each engine expands it as its model needs.

Where an answer letter stands is known by construction, and that each letter is one token is checked
when a :class:`Chat` is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sekd.config import AnswerForm
from sekd.data.questions import LETTERS, Question
from sekd.data.taxonomy import Node
from sekd.errors import ConfigError
from sekd.models import prompts

TokenIds = tuple[int, ...]
_Messages = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Transcript:
    """Token ids of a conversation and where its answers are.

    Attributes:
        token_ids: with one image placeholder.
        positions: index in ``token_ids`` of each answer's letter, level by level.
        is_target: per token, whether the model is to write it (letters, names, ends of turn).
    """

    token_ids: TokenIds = ()
    positions: tuple[int, ...] = ()
    is_target: tuple[bool, ...] = ()

    def with_context(self, token_ids: TokenIds) -> Transcript:
        """Followed by what somebody else said."""
        return self._followed_by(token_ids, is_target=False)

    def with_target(self, token_ids: TokenIds) -> Transcript:
        """Followed by what the model said."""
        return self._followed_by(token_ids, is_target=True)

    def with_answer(self, letter_id: int) -> Transcript:
        """Followed by the letter of an answer."""
        here = (*self.positions, len(self.token_ids))
        return Transcript((*self.token_ids, letter_id), here, (*self.is_target, True))

    def _followed_by(self, token_ids: TokenIds, *, is_target: bool) -> Transcript:
        return Transcript(
            (*self.token_ids, *token_ids),
            self.positions,
            (*self.is_target, *[is_target] * len(token_ids)),
        )


@dataclass(frozen=True)
class DialogueTurn:
    """A dialogue whose last word is ``question``: the model's letter comes next."""

    question: Question
    transcript: Transcript
    messages: _Messages = field(repr=False)
    text: str = field(repr=False)

    @property
    def token_ids(self) -> TokenIds:
        """Everything so far."""
        return self.transcript.token_ids


class Chat:
    """Renders dialogues and joint prompts with a model's own chat template.

    Args:
        processor: of transformers, with ``chat_template``, ``tokenizer`` and ``image_token``.
        subject: what the images show, in the words of a question.
        answer: what stands as the model's word in a dialogue: "B" or "B. chordata".
        with_image: ``False`` leaves the image out of every prompt, to see what is answered blindly.

    Raises:
        ConfigError: if the model has no chat template, shows no image placeholder in it, or does
            not write a letter as one token.
    """

    def __init__(
        self,
        processor: Any,
        *,
        subject: str,
        answer: AnswerForm = "letter_and_name",
        with_image: bool = True,
    ) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.subject = subject
        self.with_image = with_image
        self._has_names = answer == "letter_and_name"
        self.name = str(getattr(self.tokenizer, "name_or_path", "") or "the model")
        if not (getattr(processor, "chat_template", None) or self.tokenizer.chat_template):
            raise ConfigError(
                f"{self.name}: the model has no chat template; take an instruction-tuned model, "
                "or put a chat_template.jinja into its directory"
            )
        image_token = str(getattr(processor, "image_token", "<image>"))
        opening, messages = self._open("x")
        num_placeholders = opening.count(image_token)
        if num_placeholders != with_image:
            raise ConfigError(
                f"{self.name}: the chat template shows {num_placeholders} image placeholders "
                f"({image_token!r}) for {with_image:d} image"
            )
        before, placeholder, _ = opening.partition(image_token)
        self.head_text = before + placeholder if with_image else ""
        """From the start to the image placeholder: the part that an engine expands."""
        self.head_ids = self.encode(self.head_text)
        self.special_ids = {*self.tokenizer.all_special_ids, *self.encode(image_token)}
        """Tokens that are no words of anybody's."""
        _, self.letter_ids = self._letters(opening)
        """Token id of each of the 26 letters, as the first word of a dialogue's answer."""
        closed = self._render((*messages, _said("x")), is_open=False)
        self._end_of_turn = closed[len(opening) + 1 :]
        self.end_ids = self.encode(self._end_of_turn)
        """What the template puts behind the model's words."""
        self._leads: dict[str, tuple[TokenIds, TokenIds]] = {}
        self._encode_again = lru_cache(1 << 16)(self.encode)

    def encode(self, text: str) -> TokenIds:
        """Token ids of a piece of rendered text; its special tokens are spelled out in it."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    # The teacher's dialogue

    def first_turn(self, question: Question, facts: Sequence[Node]) -> DialogueTurn:
        """Open a dialogue: the image, the facts known beforehand, one question."""
        text, messages = self._open(prompts.single_question(question, facts, self.subject))
        return DialogueTurn(question, Transcript().with_context(self.encode(text)), messages, text)

    def next_turn(self, turn: DialogueTurn, answer: int, question: Question) -> DialogueTurn:
        """Take option ``answer`` of the last question as said and put the next question."""
        messages = (*turn.messages, self._reply(turn, answer))
        messages = (*messages, _user(_text(prompts.next_question(question))))
        text = self._render(messages, is_open=True)
        return DialogueTurn(question, self._continue(turn, answer, text), messages, text)

    def close(self, turn: DialogueTurn, answer: int) -> Transcript:
        """End the dialogue with option ``answer`` of the last question."""
        messages = (*turn.messages, self._reply(turn, answer))
        return self._continue(turn, answer, self._render(messages, is_open=False))

    def _reply(self, turn: DialogueTurn, answer: int) -> dict[str, Any]:
        return _said(LETTERS[answer] + self._tail(turn, answer))

    def _tail(self, turn: DialogueTurn, answer: int) -> str:
        return prompts.answer_suffix(turn.question.options[answer]) if self._has_names else ""

    def _continue(self, turn: DialogueTurn, answer: int, text: str) -> Transcript:
        """The transcript of ``text``, which must be ``turn``'s, the answer, and more."""
        tail = self._tail(turn, answer)
        before = turn.text + LETTERS[answer] + tail
        if not text.startswith(before):
            raise ConfigError(
                f"{self.name}: the chat template rewrites earlier turns when one is added (not "
                f"found again: {before[-60:]!r}), so a dialogue cannot grow by appending"
            )
        rest = text[len(before) :]
        end = self._end_of_turn if rest.startswith(self._end_of_turn) else ""
        transcript = turn.transcript.with_answer(self.letter_ids[answer])
        transcript = transcript.with_target(self._encode_again(tail + end))
        return transcript.with_context(self.encode(rest[len(end) :]))

    def plain_prompt(self, text: str) -> TokenIds:
        """The image and some words, up to where the model begins to write."""
        return self.encode(self._open(text)[0])

    # The student's joint prompt

    def joint_prompt(self, questions: Sequence[Question], root: Node) -> TokenIds:
        """All questions in one turn, up to where the model begins to write."""
        text, _ = self._open(prompts.joint_questions(questions, root, self.subject))
        return self.encode(text)

    def joint_transcript(
        self, questions: Sequence[Question], answers: Sequence[int], root: Node
    ) -> Transcript:
        """The joint prompt with option ``answers[i]`` of question i, one line each."""
        transcript = Transcript().with_context(self.joint_prompt(questions, root))
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
            lead_ids, letter_ids = self._lead(question)
            tail = prompts.answer_suffix(question.options[answer])
            is_last = number == len(questions)
            tail += self._end_of_turn if is_last else "\n"
            transcript = transcript.with_target(lead_ids).with_answer(letter_ids[answer])
            transcript = transcript.with_target(self._encode_again(tail))
        return transcript

    def joint_letter_ids(self, question: Question) -> TokenIds:
        """Token ids of the letters in a joint answer's line; " B" may not be the token "B"."""
        return self._lead(question)[1]

    def max_joint_tokens(self, questions: Sequence[Question]) -> int:
        """Room for a joint answer: twice the longest well-formed one, and a little to ramble."""
        longest = sum(
            len(self._lead(question)[0])
            + 2
            + max(len(self.encode(prompts.answer_suffix(node))) for node in question.options)
            for question in questions
        )
        return 2 * longest + 32

    def _lead(self, question: Question) -> tuple[TokenIds, TokenIds]:
        lead = prompts.answer_prefix(question)
        if lead not in self._leads:
            self._leads[lead] = self._letters(lead + " ")
        return self._leads[lead]

    # Rendering

    def _letters(self, before: str) -> tuple[TokenIds, TokenIds]:
        """Ids of ``before`` as it stands in front of a letter, and of each letter behind it."""
        encoded = [self.encode(before + letter) for letter in LETTERS]
        lead, letters = encoded[0][:-1], tuple(ids[-1] for ids in encoded)
        if any(ids[:-1] != lead for ids in encoded) or len(set(letters)) < len(letters):
            raise ConfigError(
                f"{self.name}: the tokenizer does not write each letter A to Z behind "
                f"{before[-40:]!r} as one token of its own"
            )
        return lead, letters

    def _open(self, text: str) -> tuple[str, _Messages]:
        image = [{"type": "image"}] if self.with_image else []
        messages = (_user(*image, _text(text)),)
        return self._render(messages, is_open=True), messages

    def _render(self, messages: _Messages, *, is_open: bool) -> str:
        return str(
            self.processor.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=is_open
            )
        )


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def _said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [_text(text)]}
