"""What is taken from a chat template, on small templates that each have one habit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from gallery_tokenizers import build_tokenizer
from transformers import PreTrainedTokenizerFast

from sekd.errors import ConfigError
from sekd.models.template import ChatTemplate

PARTS = (
    "{% for m in messages %}<{{ m['role'] }}>{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "</{{ m['role'] }}>{% endfor %}"
)
STRINGS = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] + '' }}</{{ m['role'] }}>{% endfor %}"
)
PROMPT = "{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    pytest.importorskip("mistral_common")
    return build_tokenizer("mistral_v1", ["<image>"], size=500)


def template(tokenizer: Any, text: Any, **arguments: Any) -> ChatTemplate:
    tokenizer.chat_template = text
    processor = SimpleNamespace(tokenizer=tokenizer, image_token="<image>", chat_template=None)
    return ChatTemplate(processor, arguments=arguments)


@pytest.mark.parametrize("text", [PARTS + PROMPT, STRINGS + PROMPT], ids=["parts", "strings"])
def test_a_message_is_given_in_the_form_that_the_template_takes(tokenizer: Any, text: str) -> None:
    found = template(tokenizer, text)
    assert found.open("Which class?").replace("\n", "") == (
        "<user><image>Which class?</user><assistant>"
    )
    assert found.reopen("Which order?") == "</assistant><user>Which order?</user><assistant>"
    assert found.end == "</assistant>"


def test_a_space_before_the_answer_is_its_lead(tokenizer: Any) -> None:
    answers_begin_with_a_space = PARTS.replace("{{ p['text'] }}", "{{ ' ' + p['text'] }}") + PROMPT
    found = template(tokenizer, answers_begin_with_a_space)
    assert found.answer_lead == " "
    assert found.open("Which class?").endswith("<assistant>")
    with_space_in_prompt = template(tokenizer, PARTS + PROMPT.replace("<assistant>", "A: "))
    assert with_space_in_prompt.answer_lead == " "
    assert with_space_in_prompt.open("Which class?").endswith("A:")


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<think>\n", "<think>\n\n</think>\n\n"),
        ("<seed:think>", "<seed:think>\n</seed:think>\n\n"),
        ("[THINK]", "[THINK]\n[/THINK]\n\n"),
        ("◁think▷", "◁think▷\n◁/think▷\n\n"),
    ],
)
def test_a_reasoning_block_is_closed(tokenizer: Any, opened: str, closed: str) -> None:
    text = PARTS + PROMPT.replace("<assistant>", f"<assistant>{opened}")
    assert template(tokenizer, text).open("Which class?").endswith(f"<assistant>{closed}")


def test_a_reasoning_block_is_closed_as_the_template_closes_it(tokenizer: Any) -> None:
    text = PARTS.replace(
        "{% for p in", "{% if m['role'] == 'assistant' %}<think></think>{% endif %}{% for p in"
    ) + PROMPT.replace("<assistant>", "<assistant><think>")
    assert template(tokenizer, text).open("x").endswith("<assistant><think></think>")


def test_a_switch_of_the_template_comes_from_its_arguments(tokenizer: Any) -> None:
    text = PARTS + PROMPT.replace(
        "<assistant>", "<assistant>{% if thinks is not false %}<think>{% endif %}"
    )
    assert template(tokenizer, text, thinks=False).open("x").endswith("<assistant>")


def test_a_template_that_ends_turns_with_nothing_has_an_empty_end(tokenizer: Any) -> None:
    text = "{% for m in messages %}" + PARTS.split("%}", 1)[1].replace("</{{ m['role'] }}>", "")
    assert template(tokenizer, text + PROMPT).end == ""


def test_a_line_break_keeps_the_answer_apart_from_the_question(tokenizer: Any) -> None:
    text = (
        "{% for m in messages %}{% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
        "{% endfor %}"
    )
    assert template(tokenizer, text).open("Which class?") == "<image>Which class?\n"


def test_todays_date_is_the_same_every_day(tokenizer: Any) -> None:
    text = "{{ strftime_now('%d %B %Y') }}" + PARTS + PROMPT
    found = template(tokenizer, text)
    assert found.writes_date
    assert found.open("x").startswith("01 January 2025<user>")
    assert not template(tokenizer, PARTS + PROMPT).writes_date


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no chat template"),
        ({"rag": PARTS, "tools": PARTS}, "chat templates for rag, tools"),
        ("{{ messages[0]['role'] }}", "0 image placeholders"),
        ("{{ raise_exception('Only tools') }}", "cannot render a conversation: .*Only tools"),
        ("{{ messages[0]['content'][0]['none'] + 1 }}", "cannot render a conversation"),
        (
            "{% for m in messages if m['role'] == 'user' %}{% for p in m['content'] %}"
            "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
            "{% endfor %}",
            "does not show what the assistant said",
        ),
    ],
)
def test_a_template_that_carries_no_dialogue_is_refused(
    tokenizer: Any, text: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        template(tokenizer, text)


def test_the_default_of_several_templates_is_used(tokenizer: Any) -> None:
    several = {"default": PARTS + PROMPT, "tools": "none"}
    assert template(tokenizer, several).open("x") == "<user><image>x</user><assistant>"
