"""Render conversations to token ids with the model's own processor and chat template.

A dialogue is append-only in *token ids*: the ids of each turn are those of the turn before plus new
ones. So an engine can reuse its prefix cache, and one teacher-forced pass sees what the engine saw.
The ids hold **one** image placeholder; each engine expands it as its model needs.

The position of each answer letter is known by construction. A :class:`Chat` checks when it is made
that each letter is one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from sekd.config import AnswerForm
from sekd.data.questions import LETTERS, Question
from sekd.data.taxonomy import Node
from sekd.errors import ConfigError
from sekd.models import prompts

TokenIds = tuple[int, ...]
_Messages = tuple[dict[str, Any], ...]

_ENCODE_CACHE_SIZE = 1 << 16


@dataclass(frozen=True)
class Transcript:
    """Token ids of a conversation, and where its answers are.

    Attributes:
        token_ids: all tokens, with one image placeholder.
        positions: index in ``token_ids`` of each answer's letter, level by level.
        is_target: per token, whether the model must write it (letters, names, ends of turn).
    """

    token_ids: TokenIds = ()
    positions: tuple[int, ...] = ()
    is_target: tuple[bool, ...] = ()

    def with_context(self, token_ids: TokenIds) -> Transcript:
        """Append tokens that the model reads."""
        return self._extended(token_ids, is_target=False)

    def with_target(self, token_ids: TokenIds) -> Transcript:
        """Append tokens that the model writes."""
        return self._extended(token_ids, is_target=True)

    def with_answer(self, letter_id: int) -> Transcript:
        """Append the letter of an answer, which the model writes, and record its position."""
        positions = (*self.positions, len(self.token_ids))
        return Transcript((*self.token_ids, letter_id), positions, (*self.is_target, True))

    def _extended(self, token_ids: TokenIds, *, is_target: bool) -> Transcript:
        return Transcript(
            (*self.token_ids, *token_ids),
            self.positions,
            (*self.is_target, *(is_target for _ in token_ids)),
        )


@dataclass(frozen=True)
class DialogueTurn:
    """A dialogue that ends with ``question``: the next token is the letter of its answer."""

    question: Question
    transcript: Transcript
    messages: _Messages = field(repr=False)
    text: str = field(repr=False)

    @property
    def token_ids(self) -> TokenIds:
        """All tokens of the dialogue, this turn included."""
        return self.transcript.token_ids


class _LetterTokens(NamedTuple):
    """The token ids of a text that ends with an answer letter.

    Attributes:
        prefix_ids: tokens of the text before the letter.
        letter_ids: one token for each of the 26 letters.
    """

    prefix_ids: TokenIds
    letter_ids: TokenIds


class Chat:
    """Renders dialogues and joint prompts with a model's own chat template.

    Args:
        processor: a processor of transformers, with ``chat_template``, ``tokenizer`` and
            ``image_token``.
        subject: what the images show; questions use this word.
        answer: how the model's answer is written in a dialogue: "B" or "B. chordata".
        with_image: ``False`` leaves the image out of every prompt, to see how the model answers
            without it.

    Raises:
        ConfigError: if the model has no chat template, the template does not show exactly one image
            placeholder, or the tokenizer does not write each letter as one token.

    Attributes:
        image_prefix_text: the rendered text from the start to the image placeholder, which is the
            part that an engine expands; empty without an image.
        image_prefix_ids: token ids of ``image_prefix_text``.
        special_ids: ids of the tokens that are not text: special tokens and the image placeholder.
        letter_ids: token id of each of the 26 letters, at the start of an answer in a dialogue.
        end_ids: token ids that the template puts behind the model's words.
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
        # The text "x" stands for any question and any answer.
        prompt, messages = self._open_conversation("x")
        self.image_prefix_text = self._find_image_prefix(prompt, image_token)
        self.image_prefix_ids = self.encode(self.image_prefix_text)
        self.special_ids = {*self.tokenizer.all_special_ids, *self.encode(image_token)}
        self.letter_ids = self._letter_tokens(prompt).letter_ids
        closed = self._render((*messages, _assistant_message("x")), is_open=False)
        self._end_of_turn = closed[len(prompt + "x") :]
        self.end_ids = self.encode(self._end_of_turn)
        self._joint_letter_tokens: dict[str, _LetterTokens] = {}
        self._encode_cached = lru_cache(_ENCODE_CACHE_SIZE)(self.encode)

    def encode(self, text: str) -> TokenIds:
        """Encode a piece of rendered text, in which special tokens are spelled out."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode token ids to text without special tokens."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    # The teacher's dialogue

    def first_turn(self, question: Question, facts: Sequence[Node]) -> DialogueTurn:
        """Open a dialogue with the image, the facts that are known beforehand, and one question."""
        prompt = prompts.single_question(question, facts, self.subject)
        text, messages = self._open_conversation(prompt)
        return DialogueTurn(question, Transcript().with_context(self.encode(text)), messages, text)

    def next_turn(self, turn: DialogueTurn, answer: int, question: Question) -> DialogueTurn:
        """Append option ``answer`` of the last question as the model's answer, and ``question``."""
        prompt = prompts.next_question(question)
        messages = (
            *turn.messages,
            self._answer_message(turn, answer),
            _user_message(_text_part(prompt)),
        )
        text = self._render(messages, is_open=True)
        return DialogueTurn(question, self._extend_transcript(turn, answer, text), messages, text)

    def close(self, turn: DialogueTurn, answer: int) -> Transcript:
        """End the dialogue with option ``answer`` of the last question."""
        messages = (*turn.messages, self._answer_message(turn, answer))
        return self._extend_transcript(turn, answer, self._render(messages, is_open=False))

    def _answer_message(self, turn: DialogueTurn, answer: int) -> dict[str, Any]:
        return _assistant_message(LETTERS[answer] + self._answer_suffix(turn, answer))

    def _answer_suffix(self, turn: DialogueTurn, answer: int) -> str:
        return prompts.answer_suffix(turn.question.options[answer]) if self._has_names else ""

    def _extend_transcript(self, turn: DialogueTurn, answer: int, text: str) -> Transcript:
        """Extend the transcript of ``turn`` to that of ``text``: its text, the answer, and more.

        Raises:
            ConfigError: if ``text`` does not begin with the text of ``turn`` and the answer.
        """
        suffix = self._answer_suffix(turn, answer)
        answered = turn.text + LETTERS[answer] + suffix
        if not text.startswith(answered):
            raise ConfigError(
                f"{self.name}: the chat template rewrites earlier turns when one is added (not "
                f"found again: {answered[-60:]!r}), so a dialogue cannot grow by appending"
            )
        rest = text[len(answered) :]
        end = self._end_of_turn if rest.startswith(self._end_of_turn) else ""
        transcript = turn.transcript.with_answer(self.letter_ids[answer])
        transcript = transcript.with_target(self._encode_cached(suffix + end))
        return transcript.with_context(self.encode(rest.removeprefix(end)))

    def plain_prompt(self, text: str) -> TokenIds:
        """Render the image and a text, up to where the model begins to write."""
        return self.encode(self._open_conversation(text)[0])

    # The student's joint prompt

    def joint_prompt(self, questions: Sequence[Question], root: Node) -> TokenIds:
        """Render all questions in one turn, up to where the model begins to write."""
        text, _ = self._open_conversation(prompts.joint_questions(questions, root, self.subject))
        return self.encode(text)

    def joint_transcript(
        self, questions: Sequence[Question], answers: Sequence[int], root: Node
    ) -> Transcript:
        """Render the joint prompt and one line per answer: option ``answers[i]`` of question i."""
        transcript = Transcript().with_context(self.joint_prompt(questions, root))
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
            prefix_ids, letter_ids = self._joint_letters(question)
            line_end = self._end_of_turn if number == len(questions) else "\n"
            suffix = prompts.answer_suffix(question.options[answer]) + line_end
            transcript = transcript.with_target(prefix_ids).with_answer(letter_ids[answer])
            transcript = transcript.with_target(self._encode_cached(suffix))
        return transcript

    def joint_letter_ids(self, question: Question) -> TokenIds:
        """Token ids of the letters in a joint answer's line; " B" may not be the token "B"."""
        return self._joint_letters(question).letter_ids

    def max_joint_tokens(self, questions: Sequence[Question]) -> int:
        """Limit for a joint answer: twice the longest well-formed one, and 32 tokens more."""
        longest = 0
        for question in questions:
            suffixes = [self.encode(prompts.answer_suffix(node)) for node in question.options]
            longest += len(self._joint_letters(question).prefix_ids) + max(map(len, suffixes))
            longest += 2  # the letter and the end of the line
        return 2 * longest + 32

    def _joint_letters(self, question: Question) -> _LetterTokens:
        prefix = prompts.answer_prefix(question)
        if prefix not in self._joint_letter_tokens:
            self._joint_letter_tokens[prefix] = self._letter_tokens(prefix + " ")
        return self._joint_letter_tokens[prefix]

    # Rendering

    def _find_image_prefix(self, prompt: str, image_token: str) -> str:
        """Return ``prompt`` up to its image placeholder, or an empty text without an image.

        Raises:
            ConfigError: if there is not exactly one placeholder, or one without an image.
        """
        num_placeholders = prompt.count(image_token)
        num_images = 1 if self.with_image else 0
        if num_placeholders != num_images:
            raise ConfigError(
                f"{self.name}: the chat template shows {num_placeholders} image placeholders "
                f"({image_token!r}) for {num_images} image"
            )
        if not self.with_image:
            return ""
        return prompt[: prompt.index(image_token)] + image_token

    def _letter_tokens(self, prefix: str) -> _LetterTokens:
        """Find the tokens of ``prefix`` in front of a letter, and of each letter behind it.

        Raises:
            ConfigError: if a letter is not one token of its own.
        """
        encoded = [self.encode(prefix + letter) for letter in LETTERS]
        prefix_ids = encoded[0][:-1]
        letter_ids = tuple(token_ids[-1] for token_ids in encoded)
        has_one_prefix = all(token_ids[:-1] == prefix_ids for token_ids in encoded)
        if not has_one_prefix or len(set(letter_ids)) < len(letter_ids):
            raise ConfigError(
                f"{self.name}: the tokenizer does not write each letter A to Z behind "
                f"{prefix[-40:]!r} as one token of its own"
            )
        return _LetterTokens(prefix_ids, letter_ids)

    def _open_conversation(self, text: str) -> tuple[str, _Messages]:
        """Render the image and a text; returns the rendered prompt and its messages."""
        image = [{"type": "image"}] if self.with_image else []
        messages = (_user_message(*image, _text_part(text)),)
        return self._render(messages, is_open=True), messages

    def _render(self, messages: _Messages, *, is_open: bool) -> str:
        """Render messages; with ``is_open`` the model's turn has begun at the end of the text."""
        return str(
            self.processor.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=is_open
            )
        )


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _user_message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def _assistant_message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [_text_part(text)]}
