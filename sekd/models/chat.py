"""Conversations as token ids, for any model with a processor and a chat template.

The token ids of every prompt and transcript are those of its whole text, as the model's tokenizer
would make them (:mod:`sekd.models.encoding`). A dialogue only grows at its end, so its prompts
share their beginnings: an engine can reuse its prefix cache, and one teacher-forced pass over the
last transcript sees what the engine saw turn by turn. The ids hold **one** image placeholder; each
engine expands it as its model needs.

The place of an answer's letter is known in the text, and its token is checked by its id: a
:class:`Chat` checks when it is made that each letter is one token, and every transcript is checked
when it is closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sekd.config import STANDARD_WORDING, AnswerForm, ModelSpec
from sekd.data.questions import LETTERS, Question
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError
from sekd.models import prompts
from sekd.models.encoding import EncodedText, Span, TextEncoder, TokenIds, common_length
from sekd.models.image_size import UsedPixels
from sekd.models.loading import load_processor
from sekd.models.template import TODAY, ChatTemplate
from sekd.models.transcripts import DialogueTurn, PlacedAnswer, Transcript
from sekd.models.wording import Wording, load_wording

__all__ = ["Chat", "DialogueTurn", "TokenIds", "Transcript", "load_chat"]


class Chat:
    """Renders dialogues and joint prompts with a model's own chat template.

    Args:
        processor: a processor of transformers, with a ``tokenizer`` and a chat template.
        subject: what the images show; questions use this word.
        wording: the templates of questions and replies.
        answer: how the model's answer is written in a dialogue: "B" or "B. chordata".
        with_image: ``False`` leaves the image out of every prompt, to see how the model answers
            without it.
        template_args: variables for the chat template, e.g. ``{"enable_thinking": False}``.

    Raises:
        ConfigError: if the model has no chat template, the template does not show exactly one image
            placeholder, the tokenizer does not write each letter as one token, or the subject holds
            a special token.

    Attributes:
        template, encoder: render and encode the texts of this chat.
        used_pixels: returns the largest number of pixels that the processor makes of an image.
        image_prefix_text: the rendered text from the start to the image placeholder, which is the
            part that an engine expands; empty without an image.
        image_prefix_ids: token ids of ``image_prefix_text``.
        special_ids: ids of the tokens that are not text: special tokens and the image placeholder.
        letter_ids: token id of each of the 26 letters, at the start of an answer in a dialogue.
        end_ids: token ids that the template puts behind the model's words; empty for some models.
        stop_id: token id that ends what the model writes.
    """

    def __init__(
        self,
        processor: Any,
        *,
        subject: str,
        wording: Wording = prompts.STANDARD,
        answer: AnswerForm = "letter_and_name",
        with_image: bool = True,
        template_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.subject = subject
        self.wording = wording
        self.with_image = with_image
        self.used_pixels = UsedPixels(processor)
        self._has_names = answer == "letter_and_name"
        self.template = ChatTemplate(processor, arguments=template_args, with_image=with_image)
        prompt = self.template.open("x")
        example = f"{prompt}{self.template.answer_lead}A{self.template.end}"
        self.encoder = TextEncoder(self.tokenizer, example)
        self.name = self.template.name
        image_end = prompt.find(self.template.image_token) + len(self.template.image_token)
        self.image_prefix_text = prompt[:image_end] if with_image else ""
        self.image_prefix_ids = self.encoder.encode(self.image_prefix_text)
        self.special_ids = {
            *self.tokenizer.all_special_ids,
            *self.encoder.encode_part(self.template.image_token),
        }
        self.letter_ids = self._letter_ids(prompt + self.template.answer_lead)
        self.end_ids = self.encoder.encode_part(self.template.end) if self.template.end else ()
        self.stop_id = self._find_stop()
        self._joint_letter_ids: dict[str, TokenIds] = {}
        self.refuse_special_tokens(subject, "the subject")
        for template in (*wording.parts, "ranks"):
            self.refuse_special_tokens(str(getattr(wording, template)), f"the wording's {template}")

    @property
    def template_source(self) -> str:
        """The text of the chat template."""
        return self.template.source

    @property
    def added_around_turns(self) -> dict[str, Any]:
        """What is put around the turns beside the template's own generation prompt, as JSON."""
        date = {"date": TODAY.date().isoformat()} if self.template.writes_date else {}
        return {
            "prefix_ids": list(self.prefix_ids),
            "forced_start": self.template.forced_start,
            "answer_lead": self.template.answer_lead,
            **date,
        }

    @property
    def answer_lead(self) -> str:
        """The spaces between a generation prompt and the model's first word."""
        return self.template.answer_lead

    @property
    def prefix_ids(self) -> TokenIds:
        """The special tokens that the tokenizer puts in front of a text that lacks them."""
        return self.encoder.prefix_ids

    def encode(self, text: str) -> TokenIds:
        """Encode a piece of text by itself, without special tokens in front."""
        return self.encoder.encode_part(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode token ids to text without special tokens."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def refuse_special_names(self, taxonomy: Taxonomy) -> None:
        """Refuse a taxonomy with a name that the model would not read as text.

        Raises:
            ConfigError: naming the first node whose name or rank holds the image placeholder or a
                special token; also if the wording asks about a root without a name.
        """
        self.wording.refuse_taxonomy(taxonomy.root, taxonomy.source)
        for node in taxonomy.nodes:
            self.refuse_special_tokens(node.name, f"{taxonomy.source}: the name")
            self.refuse_special_tokens(node.rank, f"{taxonomy.source}: the rank")

    def refuse_special_tokens(self, text: str, place: str) -> None:
        """Refuse a text with the image placeholder or a special token in it.

        Args:
            place: where the text comes from, for the message.

        Raises:
            ConfigError: naming the token and the place.
        """
        found = self._special_tokens.search(text)
        if found:
            raise ConfigError(
                f"{place} {text!r} holds {found[0]!r}, which is a special token of {self.name} and "
                "no text; write it in another way"
            )

    # The teacher's dialogue

    def first_turn(self, question: Question, facts: Sequence[Node]) -> DialogueTurn:
        """Open a dialogue with the image, the facts that are known beforehand, and one question."""
        asked = prompts.single_question(question, facts, self.subject, self.wording)
        text = self.template.open(asked)
        return DialogueTurn(question, self._turn_ids(text), text)

    def next_turn(self, turn: DialogueTurn, answer: int, question: Question) -> DialogueTurn:
        """Append option ``answer`` of the last question as the model's answer, and ``question``."""
        behind = self.template.reopen(prompts.next_question(question, self.subject, self.wording))
        text, answers = self._with_answer(turn, answer, behind)
        return DialogueTurn(question, self._turn_ids(text), text, answers)

    def close(self, turn: DialogueTurn, answer: int) -> Transcript:
        """End the dialogue with option ``answer`` of the last question.

        Raises:
            ConfigError: if the tokens before the last answer are not those that the model read.
        """
        transcript = self._transcript(*self._with_answer(turn, answer, self.template.end))
        if transcript.token_ids[: transcript.positions[-1]] != turn.token_ids:
            raise self._merged(turn.text[-8:])
        return transcript

    def plain_prompt(self, text: str) -> TokenIds:
        """Render the image and a text, up to where the model begins to write."""
        return self.encoder.encode(self.template.open(text))

    def _with_answer(
        self, turn: DialogueTurn, answer: int, behind: str
    ) -> tuple[str, tuple[PlacedAnswer, ...]]:
        """Append an answer and what is behind it; returns the text and all answers in it.

        The model itself writes the end of its turn, as far as ``behind`` begins with it.
        """
        node = turn.question.options[answer]
        suffix = prompts.answer_suffix(node) if self._has_names else ""
        letter = len(turn.text + self.template.answer_lead)
        text = turn.text + self.template.answer_lead + LETTERS[answer] + suffix
        words = (letter, len(text) + common_length(self.template.end, behind))
        answers = (*turn.answers, PlacedAnswer(letter, words, self.letter_ids[answer]))
        return text + behind, answers

    def _turn_ids(self, text: str) -> TokenIds:
        return self._ids_before_letter(text + self.template.answer_lead, self.letter_ids[0])

    def _ids_before_letter(self, text: str, letter_id: int) -> TokenIds:
        """Encode a prompt as it stands in front of a letter; the token of "A" there is known."""
        token_ids = self.encoder.encode(text + LETTERS[0])
        if token_ids[-1] != letter_id:
            raise self._merged(text[-8:] + LETTERS[0])
        return token_ids[:-1]

    # The student's joint prompt

    def joint_prompt(self, questions: Sequence[Question], root: Node) -> TokenIds:
        """Render all questions in one turn, up to where the model begins to write."""
        return self.encoder.encode(self._joint_text(questions, root))

    def joint_transcript(
        self, questions: Sequence[Question], answers: Sequence[int], root: Node
    ) -> Transcript:
        """Render the joint prompt and one line per answer: option ``answers[i]`` of question i."""
        text = self._joint_text(questions, root)
        places = []
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
            start = len(text)
            text += self.template.answer_lead if number == 1 else ""
            text += self._line_start(question)
            letter = len(text)
            text += LETTERS[answer] + prompts.answer_suffix(question.options[answer])
            text += self.template.end if number == len(questions) else "\n"
            letter_id = self.joint_letter_ids(question)[answer]
            places.append(PlacedAnswer(letter, (start, len(text)), letter_id))
        return self._transcript(text, places)

    def first_line(self, questions: Sequence[Question], root: Node) -> DialogueTurn:
        """Render the joint prompt and the reply up to the letter of the first question."""
        text = self._joint_text(questions, root) + self.template.answer_lead
        return self._line(questions[0], text)

    def next_line(self, turn: DialogueTurn, answer: int, question: Question) -> DialogueTurn:
        """Go on with the reply, from option ``answer`` of the last line to the next letter."""
        suffix = prompts.answer_suffix(turn.question.options[answer])
        return self._line(question, f"{turn.text}{LETTERS[answer]}{suffix}\n")

    def _line(self, question: Question, before: str) -> DialogueTurn:
        text = before + self._line_start(question)
        letter_id = self.joint_letter_ids(question)[0]
        return DialogueTurn(question, self._ids_before_letter(text, letter_id), text)

    def _line_start(self, question: Question) -> str:
        return f"{prompts.answer_prefix(question, self.wording)} "

    def joint_letter_ids(self, question: Question) -> TokenIds:
        """Token ids of the letters in a joint answer's line; " B" may not be the token "B"."""
        prefix = prompts.answer_prefix(question, self.wording)
        if prefix not in self._joint_letter_ids:
            self._joint_letter_ids[prefix] = self._letter_ids(f"{prefix} ")
        return self._joint_letter_ids[prefix]

    def max_joint_tokens(self, questions: Sequence[Question]) -> int:
        """Limit for a joint answer: twice the longest well-formed one, and 32 tokens more."""
        longest = 0
        for question in questions:
            suffixes = [self.encode(prompts.answer_suffix(node)) for node in question.options]
            prefix = prompts.answer_prefix(question, self.wording)
            longest += len(self.encode(f"{prefix} {LETTERS[0]}"))
            longest += max(map(len, suffixes)) + 1  # the end of the line
        return 2 * longest + 32

    def _joint_text(self, questions: Sequence[Question], root: Node) -> str:
        asked = prompts.joint_questions(questions, root, self.subject, self.wording)
        return self.template.open(asked)

    # Tokens

    def _transcript(self, text: str, answers: Sequence[PlacedAnswer]) -> Transcript:
        """Encode a text with its answers, whose letters must be the tokens that are expected."""
        spans = [answer.words for answer in answers]
        letters = [(answer.letter, answer.letter + 1) for answer in answers]
        encoded = self.encoder.encode_with_places(text, _borders([*spans, *letters], text))
        positions = tuple(self._letter_place(encoded, answer, text) for answer in answers)
        return Transcript(encoded.token_ids, positions, encoded.is_within(spans))

    def _letter_place(self, encoded: EncodedText, answer: PlacedAnswer, text: str) -> int:
        position = encoded.index_of(answer.letter)
        if position is None or encoded.token_ids[position] != answer.letter_id:
            raise self._merged(text[answer.letter - 8 : answer.letter + 8])
        return position

    def _letter_ids(self, before: str) -> TokenIds:
        """Find the token of each of the 26 letters behind a text.

        Raises:
            ConfigError: if a letter is not one token of its own.
        """
        encoded = [self.encoder.encode(before + letter) for letter in LETTERS]
        letter_ids = tuple(token_ids[-1] for token_ids in encoded)
        has_one_prefix = all(token_ids[:-1] == encoded[0][:-1] for token_ids in encoded)
        if not has_one_prefix or len(set(letter_ids)) < len(letter_ids):
            raise ConfigError(
                f"{self.name}: the tokenizer does not write each letter A to Z behind "
                f"{before[-40:]!r} as one token of its own"
            )
        return letter_ids

    def _find_stop(self) -> int:
        """Return the first special token of the end of a turn, or else the end of sequence."""
        ends = [token for token in self.end_ids if token in self.special_ids]
        eos_id = self.tokenizer.eos_token_id
        if not ends and eos_id is None:
            raise ConfigError(
                f"{self.name}: neither the chat template nor the tokenizer (eos_token) says with "
                "which token the model's turn ends"
            )
        return int(ends[0] if ends else eos_id)

    @cached_property
    def _special_tokens(self) -> re.Pattern[str]:
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        tokens = {
            self.template.image_token,
            *self.tokenizer.all_special_tokens,
            *(str(token) for token in added if getattr(token, "special", True)),
        }
        return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))

    def _merged(self, text: str) -> ConfigError:
        return ConfigError(
            f"{self.name}: the tokenizer merges an answer's letter with the text around it "
            f"({text!r}), so the answer is no token of its own"
        )


def _borders(spans: Iterable[Span], text: str) -> list[int]:
    return sorted({min(border, len(text)) for span in spans for border in span})


def load_chat(
    spec: ModelSpec,
    *,
    subject: str,
    wording: str = STANDARD_WORDING,
    answer: AnswerForm = "letter_and_name",
    with_image: bool = True,
) -> Chat:
    """Load a model's processor, and make a chat of it as the config of the model says.

    Args:
        wording: name or file of the wording of questions.

    Raises:
        ConfigError: if the processor or the wording cannot be loaded, and as :class:`Chat`.
    """
    return Chat(
        load_processor(spec),
        subject=subject,
        wording=load_wording(wording),
        answer=answer,
        with_image=with_image,
        template_args=spec.chat_template_args,
    )
