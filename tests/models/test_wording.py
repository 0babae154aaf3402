"""Wordings: the paper's, a user's own, and what is refused in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.config import RunConfig
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.models.prompts import (
    STANDARD,
    answer_line,
    answer_prefix,
    find_joint_answers,
    joint_questions,
    next_question,
    open_line,
    open_question,
    single_question,
)
from sekd.models.wording import Wording, load_wording
from sekd.stages.distill.run import run_distillation
from sekd.stages.elicit.answers import answers_spec

TREE = Taxonomy.from_paths(
    {
        name: ["animalia", phylum, name]
        for phylum, name in [("chordata", "aves"), ("mollusca", "B")]
    },
    level_names=("kingdom", "phylum", "class"),
)
PHYLUM = Question(1, tuple(TREE.children(TREE.root)), TREE["animalia/chordata"])
CLASS = Question(2, (TREE.leaf("aves"), TREE.leaf("B")), None)
PAPER = load_wording("paper")

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_papers_wording_asks_the_root_and_replies_by_name() -> None:
    assert joint_questions([PHYLUM, CLASS], TREE.root, "organism", PAPER) == (
        "You are a taxonomist. Answer the following multiple-choice questions about the organism "
        "in the image.\n"
        "Q1: what is the taxonomic classification at kingdom level?\nA. animalia\n"
        "Q2: what is the taxonomic classification at phylum level?\nA. chordata\nB. mollusca\n"
        "Q3: what is the taxonomic classification at class level?\nA. aves\nB. B"
    )
    assert single_question(PHYLUM, [], "organism", PAPER) == (
        "Given the image and the known facts None, answer Q2: what is the taxonomic classification "
        "at phylum level?\nA. chordata\nB. mollusca"
    )
    assert answer_line(PHYLUM, 1, PAPER) == "L2: mollusca"
    assert answer_prefix(PHYLUM, PAPER) == "L2:"


def test_open_naming_lists_the_ranks_and_shows_no_names(write: Write) -> None:
    assert open_question(TREE.ranks, "organism") == (
        "Name the organism in the image at these levels, one line each: phylum, class."
    )
    assert open_line(TREE["animalia/chordata"]) == "phylum: chordata"
    mine = load_wording(
        str(write("open: '{subject}? {ranks}!'\nopen_line: '{name}.'\nranks: {phylum: Stamm}\n"))
    )
    assert open_question(TREE.ranks, "Tier", mine) == "Tier? Stamm, class!"
    assert open_line(TREE["animalia/chordata"], mine) == "chordata."


def test_the_standard_words_of_open_naming_are_in_no_fingerprint(write: Write) -> None:
    assert not {"open", "open_line"} & PAPER.settings().keys()
    mine = load_wording(str(write("open: 'Name it: {ranks}'")))
    assert mine.settings()["open"] == "Name it: {ranks}"
    assert "open_line" not in mine.settings()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("L1: animalia\nL2: chordata\nL3: aves", [0, 0]),
        ("L2: **Mollusca**.\nL3:  AVES", [1, 0]),
        ("phylum: mollusca\nL3: class: aves", [1, 0]),
        ("L2: B. mollusca\nL3: A", [1, 0]),
        ("L2: annelida\nL3: aves", [None, 0]),
        ("L2: chordata\nL2: mollusca", [None, None]),
        ("L1: chordata", [None, None]),
        ("chordata\naves", [None, None]),
        ("L3: B", [None, 1]),
    ],
)
def test_replies_by_name_are_parsed(reply: str, expected: list[int | None]) -> None:
    parsed = find_joint_answers(reply, [PHYLUM, CLASS], PAPER)
    assert [answer.choice if answer else None for answer in parsed] == expected


@given(st.lists(st.integers(0, 1), min_size=2, max_size=2), st.sampled_from([STANDARD, PAPER]))
def test_a_reply_as_asked_for_is_parsed(choices: list[int], wording: Wording) -> None:
    questions = [PHYLUM, CLASS]
    lines = [answer_line(*each, wording) for each in zip(questions, choices, strict=True)]
    parsed = find_joint_answers("\n".join(lines), questions, wording)
    assert [answer.choice if answer else None for answer in parsed] == choices


def test_a_file_replaces_some_templates_of_the_standard_wording(write: Write) -> None:
    wording = load_wording(
        str(write("next: '{subject}, {rank}? {{x}}\n\n  {options}'\nranks: {phylum: Stamm}\n"))
    )
    assert next_question(PHYLUM, "Tier", wording) == "Tier, Stamm? {x}\nA. chordata\nB. mollusca"
    assert answer_prefix(PHYLUM, wording) == "Stamm:"
    assert joint_questions([PHYLUM], TREE.root, "x", wording).endswith(
        "The kingdom is animalia.\nQ1: what is the Stamm?\nA. chordata\nB. mollusca"
    )
    parsed = find_joint_answers("stamm: B. mollusca", [PHYLUM], wording)
    assert parsed[0] is not None
    assert parsed[0].choice == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "first: '{rnak} {options}'",
            r"first: no part \{rnak\} here; known: \{facts\}, ",
        ),
        ("first: 'what?'", r"first: the part \{options\} is missing"),
        ("joint: '{questions.__class__}'", r"joint: no part \{questions.__class__\} here"),
        ("joint: '{questions!r}'", "joint: not a template"),
        ("joint: '{questions'", "joint: not a template"),
        ("open: 'Name it.'", r"open: the part \{ranks\} is missing"),
        ("open_line: '{letter}'", r"open_line: no part \{letter\} here; known: \{name\}, "),
        ("line: '{letter}: {name}'", "line: write it as"),
        ("line: '{name}'", "line: name the level by"),
        ("frist: x", "unknown key frist; did you mean first"),
        ("asks_root: maybe", "asks_root: .*boolean"),
        ("- first", "expected keys such as first, next and joint"),
        ("1: x", "expected keys such as"),
        ("first: [", "not valid YAML"),
        ("first: \x00", "not valid YAML"),
        ("a: &a [x]\nb: [*a, *a]", "in place of an alias"),
        ("first: '" + "x" * 100_000 + "'", "more than 100000 bytes"),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(write: Write, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=message) as raised:
        load_wording(str(path))
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_an_unknown_wording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'papre': neither .* did you mean paper\?"):
        load_wording("papre")
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_wording(str(tmp_path / "none.yaml"))


def test_a_root_without_name_cannot_be_asked() -> None:
    rootless = Taxonomy.from_paths({"a": ["a"], "b": ["b"]}, source="t.json")
    STANDARD.refuse_taxonomy(rootless.root, rootless.source)
    with pytest.raises(ConfigError, match=r"t\.json: the wording asks about the root"):
        PAPER.refuse_taxonomy(rootless.root, rootless.source)


def test_a_chat_uses_its_wording_and_refuses_special_tokens_in_it(
    config: RunConfig, seen: Dataset, write: Write
) -> None:
    processor = load_processor(config.model)
    chat = Chat(processor, subject="organism", wording=PAPER)
    level = Question(1, tuple(seen.taxonomy.children(seen.taxonomy.root)), None)
    prompt = chat.decode(chat.joint_prompt([level], seen.taxonomy.root))
    assert "what" in prompt
    assert chat.max_joint_tokens([level]) > 32
    token = processor.tokenizer.all_special_tokens[0]
    wording = load_wording(str(write(f"no_facts: 'none {token}'")))
    with pytest.raises(ConfigError, match="the wording's no_facts"):
        Chat(processor, subject="organism", wording=wording)


def with_wording(config: RunConfig, name: str) -> RunConfig:
    train = config.data["train"].model_copy(update={"wording": name})
    return config.model_copy(update={"data": config.data | {"train": train}})


def test_the_content_of_a_wording_counts_and_not_its_name(config: RunConfig, write: Write) -> None:
    assert "wording" not in answers_spec(config)["data"]
    path = str(write("no_facts: nothing"))
    before = answers_spec(with_wording(config, path))
    assert before["data"]["wording"]["no_facts"] == "nothing"
    write("no_facts: nothing yet")
    assert answers_spec(with_wording(config, path)) != before


def test_a_student_needs_letters_unless_it_learns_no_quiz(config: RunConfig) -> None:
    paper = with_wording(config, "paper")
    for formats in (("quiz",), ("quiz", "open")):
        spec = config.distill.model_copy(update={"formats": formats})
        with pytest.raises(ConfigError, match=r"data\.train\.wording: paper has no \{letter\}"):
            run_distillation(paper.model_copy(update={"distill": spec}))
    spec = config.distill.model_copy(update={"formats": ("open",)})
    with pytest.raises(ConfigError, match="run sekd elicit first"):
        run_distillation(paper.model_copy(update={"distill": spec}))
