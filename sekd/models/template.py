"""Render conversations as text with the model's own chat template.

A chat that grows turn by turn holds three kinds of text: the generation prompt, the words that the
model wrote, and what the template puts between these words and the next generation prompt. A
template may render earlier turns in another way when a turn is added (Qwen3 drops the reasoning of
earlier turns, LLaVA-OneVision writes a space where its generation prompt writes none). So a
conversation is built from these three kinds of text, and earlier text is never rendered again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product
from typing import Any

from jinja2.exceptions import TemplateError

from sekd.errors import ConfigError, in_one_line

_TEXT, _ANSWER = "QUESTION", "ANSWER"
"""They stand for a question and for the model's words, to find where a template puts them."""

_OPEN_REASONING = re.compile(
    r"(?P<left>[<\[◁])(?P<tag>[\w:]*(think|reason)\w*)(?P<right>[>\]▷])\s*$", re.IGNORECASE
)
"""A generation prompt that ends so makes the model reason before it answers: ``<think>`` of Qwen
and GLM, ``[THINK]`` of Magistral, ``◁think▷`` of Kimi."""

TODAY = datetime(2025, 1, 1, tzinfo=UTC)
"""The date for templates that write today's date into the prompt. With the real date a run that is
continued tomorrow would ask another question. A template's own variable (``date_string``,
``current_date``) takes another date from ``model.chat_template_args``."""

_PLACEHOLDERS = ("image_token", "boi_token", "image_placeholder")
"""Attributes of a processor that may name the placeholder which its template writes for an image.
Gemma 3 writes its begin-of-image token and replaces that by image tokens."""

_DEFAULT_PLACEHOLDER = "<image>"


class ChatTemplate:
    """The chat template of a model, applied to text that is not tokenized yet.

    Args:
        processor: a processor of transformers, with a ``tokenizer``.
        arguments: variables for the template, e.g. ``{"enable_thinking": False}``. Without one
            for it, the date that a template writes is :data:`TODAY`.
        with_image: ``False`` leaves the image out of every conversation.

    Raises:
        ConfigError: if there is no chat template, it cannot render a conversation, or it does not
            show exactly one image placeholder.

    Attributes:
        name: the model's name, for messages.
        source: the text of the template.
        image_token: the placeholder that stands for the image.
        forced_start: what follows every generation prompt, so that the answer comes next: the end
            of a reasoning block that the prompt opens, or the header of a channel; a line break
            where the template puts nothing between the user's words and the model's.
        answer_lead: the spaces in front of the first word of the model. LLaVA-1.5's prompt ends
            with ``ASSISTANT:`` and its answer begins with a space. Spaces at the end of a prompt
            are counted here too: a tokenizer writes them and the first word as one token.
        end: what the template puts behind the model's last words; empty for some templates.
    """

    def __init__(
        self, processor: Any, *, arguments: Mapping[str, Any] | None = None, with_image: bool = True
    ) -> None:
        tokenizer = processor.tokenizer
        self.name = str(getattr(tokenizer, "name_or_path", "") or "the model")
        self.source = chat_template_of(processor, self.name)
        self._processor = processor
        self._arguments = {"strftime_now": TODAY.strftime, **(arguments or {})}
        self._with_image = with_image
        self._takes_strings = False
        self.image_token = _DEFAULT_PLACEHOLDER
        prompt = self._find_content_form()
        self.forced_start, self.answer_lead = self._before_answer(prompt)
        self.end = self._behind_answer([self._user(_TEXT), self._answer()], is_open=False)

    @property
    def writes_date(self) -> bool:
        """Whether the template asks for today's date."""
        return "strftime_now" in self.source

    def open(self, text: str) -> str:
        """Render the image and a text, up to where the model begins to write."""
        prompt = self._render([self._user(text)], is_open=True)
        return prompt.rstrip(" ") + self.forced_start

    def reopen(self, text: str) -> str:
        """Render what follows the model's words when the user goes on with ``text``.

        That is the end of the model's turn, the user's turn, and the next generation prompt.
        """
        messages = [self._user(_TEXT), self._answer(), self._user(text, is_first=False)]
        return self._behind_answer(messages, is_open=True).rstrip(" ") + self.forced_start

    def _find_content_form(self) -> str:
        """Find out whether the template takes a list of parts or a string; returns a prompt.

        Raises:
            ConfigError: if it takes neither, or the image placeholder does not occur exactly once.
        """
        failures = []
        num_images = 1 if self._with_image else 0
        for takes_strings, image_token in product((False, True), self._placeholders()):
            self._takes_strings, self.image_token = takes_strings, image_token
            try:
                prompt = self._render([self._user(_TEXT)], is_open=True)
            except ConfigError as error:
                failures.append(str(error))
                continue
            num_placeholders = prompt.count(image_token)
            if prompt.count(_TEXT) == 1 and num_placeholders == num_images:
                return prompt
            failures.append(
                f"{self.name}: the chat template shows {num_placeholders} image placeholders "
                f"({image_token!r}) for {num_images} image"
            )
        raise ConfigError(failures[0])

    def _placeholders(self) -> list[str]:
        named = [getattr(self._processor, name, None) for name in _PLACEHOLDERS]
        return [str(token) for token in named if token] or [_DEFAULT_PLACEHOLDER]

    def _before_answer(self, prompt: str) -> tuple[str, str]:
        """Return what must follow the generation prompt before the answer, and the answer's lead.

        The first is what the template writes in front of an answer that is given to it: the end of
        a reasoning block that its generation prompt opens, or the header of a channel. The model's
        answer is then the first word behind it.
        """
        closed = self._render([self._user(_TEXT), self._answer()], is_open=False)
        before = closed[: self._answer_place(closed)]
        stripped = prompt.rstrip(" ")
        if stripped.endswith(_TEXT):  # nothing but a line break can keep the two words apart
            return "\n", ""
        rest = before.removeprefix(stripped) if before.startswith(stripped) else ""
        lead = rest[len(rest.rstrip(" ")) :] or prompt[len(stripped) :]
        forced = rest.rstrip(" ")
        opened = _OPEN_REASONING.search(stripped + forced)
        if opened:
            forced += f"\n{opened['left']}/{opened['tag']}{opened['right']}\n\n"
        return forced, lead

    def _behind_answer(self, messages: list[dict[str, Any]], *, is_open: bool) -> str:
        rendered = self._render(messages, is_open=is_open)
        return rendered[self._answer_place(rendered) + len(_ANSWER) :]

    def _answer_place(self, rendered: str) -> int:
        place = rendered.rfind(_ANSWER)
        if place < 0:
            raise ConfigError(
                f"{self.name}: the chat template does not show what the assistant said; sekd needs "
                "a template for conversations of several turns"
            )
        return place

    def _answer(self) -> dict[str, Any]:
        """The message that stands for the model's words, in the form that the template takes."""
        as_parts = {"role": "assistant", "content": [{"type": "text", "text": _ANSWER}]}
        as_string = {"role": "assistant", "content": _ANSWER}
        if self._takes_strings:
            return as_string
        # A template that takes strings from the assistant prints a list as Python shows it.
        rendered = self._render([self._user(_TEXT), as_parts], is_open=False)
        is_printed = f"'text': '{_ANSWER}'" in rendered or _ANSWER not in rendered
        return as_string if is_printed else as_parts

    def _user(self, text: str, *, is_first: bool = True) -> dict[str, Any]:
        has_image = self._with_image and is_first
        if self._takes_strings:
            content: Any = f"{self.image_token}\n{text}" if has_image else text
        else:
            image = [{"type": "image"}] if has_image else []
            content = [*image, {"type": "text", "text": text}]
        return {"role": "user", "content": content}

    def _render(self, messages: list[dict[str, Any]], *, is_open: bool) -> str:
        """Render messages; with ``is_open`` the model's turn has begun at the end of the text."""
        owner = self._processor if hasattr(self._processor, "apply_chat_template") else None
        if owner is None or not getattr(owner, "chat_template", None):
            owner = self._processor.tokenizer  # its template lies in tokenizer_config.json alone
        try:
            rendered = owner.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=is_open, **self._arguments
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{self.name}: the chat template cannot render a conversation: {in_one_line(error)}"
            ) from error
        return str(rendered)


def chat_template_of(processor: Any, name: str) -> str:
    """Return the template's text: the processor's, or else its tokenizer's.

    Args:
        name: the model's name, for the message.

    Raises:
        ConfigError: if there is none, or there are several by name and none is the default.
    """
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if isinstance(template, Mapping):
        if "default" not in template:
            raise ConfigError(
                f"{name}: the model has chat templates for {', '.join(template)}, and none is "
                "called 'default'; put the one to use into its directory as chat_template.jinja"
            )
        template = template["default"]
    if not template:
        raise ConfigError(
            f"{name}: the model has no chat template; take an instruction-tuned model, or put a "
            "chat_template.jinja into its directory"
        )
    return str(template)
