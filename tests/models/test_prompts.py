"""The exact wording of the prompts, and which forms of a reply are parsed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sekd.data.questions import Question
from sekd.data.taxonomy import Node, Taxonomy
from sekd.models.prompts import (
    answer_prefix,
    answer_suffix,
    find_joint_answers,
    joint_questions,
    next_question,
    single_question,
)

TREE = Taxonomy.from_paths(
    {
        f"{phylum} {name}": ["animalia", phylum, name]
        for phylum in ("mollusca", "chordata")
        for name in ("aves", "fish")
    },
    level_names=("kingdom", "phylum", "class"),
)


def question(level: int, *node_ids: str) -> Question:
    return Question(level, tuple(TREE[f"animalia/{node_id}"] for node_id in node_ids), None)


PHYLUM = question(1, "mollusca", "chordata")
CLASS = question(2, "mollusca/fish", "chordata/aves", "mollusca/aves", "chordata/fish")
CHORDATA = TREE["animalia/chordata"]
NO_ROOT = Taxonomy.from_paths({"a": ["a"], "b": ["b"]}).root


def choices(reply: str, questions: list[Question]) -> list[int | None]:
    """The option index per question, ``None`` where the reply gives none."""
    answers = find_joint_answers(reply, questions)
    return [None if answer is None else answer.choice for answer in answers]


def test_a_line_break_in_a_name_forges_no_line() -> None:
    paths = {"1": ["a\nb", "Red\nB. Green"], "2": ["a\nb", "Blue\u2028B. x"]}
    tree = Taxonomy.from_paths(paths, level_names=("k", "r\n2"))
    forged = Question(1, tuple(tree.children(tree.root)), None)
    lines = "A. Red B. Green\nB. Blue B. x"
    for text in (
        single_question(forged, [tree.root], "organism"),
        next_question(forged),
        joint_questions([forged], tree.root, "organism"),
    ):
        assert text.endswith(f"\n{lines}")
        assert len(text.splitlines()) == (5 if text.startswith("You are") else 3)
    reply = f"{answer_prefix(forged)} A{answer_suffix(forged.options[0])}"
    assert reply == "r 2: A. Red B. Green"
    assert choices(reply, [forged]) == [0]


@pytest.mark.parametrize(
    ("facts", "known"),
    [
        ([], "None"),
        ([NO_ROOT], "None"),
        ([TREE.root], "kingdom: animalia"),
        ([TREE.root, CHORDATA], "kingdom: animalia, phylum: chordata"),
    ],
)
def test_wording_of_a_single_question(facts: list[Node], known: str) -> None:
    assert single_question(CLASS, facts, "organism") == (
        f"Given the image and the known facts ({known}), answer with the letter of the right "
        "option: what is the class of the organism?\n"
        "A. fish\nB. aves\nC. aves\nD. fish"
    )


def test_wording_of_a_later_turn() -> None:
    assert next_question(PHYLUM) == (
        "Given the image and the known facts, what is the phylum?\nA. mollusca\nB. chordata"
    )


@pytest.mark.parametrize(
    ("root", "known"), [(TREE.root, "The kingdom is animalia.\n"), (NO_ROOT, "")]
)
def test_wording_of_the_joint_questions(root: Node, known: str) -> None:
    assert joint_questions([PHYLUM, CLASS], root, "dish") == (
        "You are a taxonomist. Answer the following multiple-choice questions about the dish in "
        f"the image, one line each, as 'level: letter. name'.\n{known}"
        "Q1: what is the phylum?\nA. mollusca\nB. chordata\n"
        "Q2: what is the class?\nA. fish\nB. aves\nC. aves\nD. fish"
    )


@pytest.mark.parametrize("separator", ["\n", " \n ", "\r\n", "\n\n"])
def test_the_answer_that_the_student_learns_is_parsed(separator: str) -> None:
    lines = [
        f"{answer_prefix(PHYLUM)} B{answer_suffix(CHORDATA)}",
        f"{answer_prefix(CLASS)} C{answer_suffix(TREE['animalia/mollusca/aves'])}",
    ]
    assert lines == ["phylum: B. chordata", "class: C. aves"]
    assert choices(separator.join(lines), [PHYLUM, CLASS]) == [1, 2]


@pytest.mark.parametrize(
    "reply",
    [
        "phylum: B. chordata",
        "phylum: B",
        "Phylum : b",
        "PHYLUM: (B) chordata",
        "phylum: [b]",
        "phylum: B) chordata",
        "phylum:B.",
        "phylum : B . chordata",  # a word tokenizer's spaces
        "**Phylum:** b",
        "**phylum**: **B**",
        "- phylum: **B.** chordata",
        "## phylum: B",
        "L1: B",
        "l1: b. chordata",
        "Level 1: B",
        "level1. B",
        "Q1: B",
        "Q1. B",
        "1. B",
        "1) B. chordata",
        "1. phylum: B. chordata",
        "Q1: phylum: B",
        "Let me look at it.\n\nphylum: B. chordata\nI am sure.",
        "phylum: B. chordata\nL1: B",
    ],
)
def test_these_forms_are_parsed(reply: str) -> None:
    assert choices(reply, [PHYLUM, CLASS]) == [1, None]


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "B",
        "B. chordata",
        "Answer: C",
        "Answer: B. chordata",
        "A bird",
        "phylum: A bird",
        "phylum: a mollusc, I think",
        "phylum: chordata",
        "phylum: Both",
        "phylum: A or B",
        "phylum:",
        "phylum:\nB",
        "phylum B",
        "subphylum: B",
        "phylums: B",
        "The phylum: B",
        "Q1: what is the phylum?\nA. mollusca\nB. chordata",  # the question repeated
        "phylum: B\nphylum: A",
        "phylum: B. chordata\n1. A",
        "phylum: B\nphylum: Z",
        "phylum: C",  # beyond the two options
        "phylum: Z",
        "phylum: \u212a",  # matches [A-Z] where case is ignored, but is not an ASCII letter
        "3: B",
        "L10: B",
    ],
)
def test_these_forms_are_no_answer(reply: str) -> None:
    assert choices(reply, [PHYLUM, CLASS]) == [None, None]


def test_levels_are_parsed_independently() -> None:
    reply = "class: D. fish\nphylum: A. mollusca\nphylum: B. chordata"
    assert choices(reply, [PHYLUM, CLASS]) == [None, 3]
    assert choices("class: D\norder: A\nphylum: A", [PHYLUM, CLASS]) == [0, 3]


DEEP = Taxonomy.from_paths(
    {leaf: [f"n{depth}" for depth in range(1, 12)] + [leaf] for leaf in ("x", "y")}
    | {"z": ["n1", "n2", "z"]}
)


def test_ranks_with_a_common_prefix_are_distinguished() -> None:
    path = DEEP.path(DEEP.leaf("x"))
    questions = [Question(node.depth, (node, DEEP.leaf("z")), None) for node in path]
    assert [q.rank for q in questions][::9] == ["level 1", "level 10"]
    reply = "level 10: A\nL11: b"
    expected = [None] * 9 + [0, 1]
    assert choices(reply, questions) == expected
    assert choices("level 1: B", questions) == [1] + [None] * 10


@pytest.mark.parametrize("rank", ["class (sub)", "class.", "c*"])
def test_ranks_are_not_read_as_patterns(rank: str) -> None:
    tree = Taxonomy.from_paths({n: ["top", n] for n in "ab"}, level_names=("kingdom", rank))
    questions = [Question(1, tuple(tree.children(tree.root)), None)]
    assert choices(f"{rank}: B. b", questions) == [1]
    assert choices("ccc: B. b", questions) == [None]


pieces = st.sampled_from(
    ["phylum", "class", "L", "Q", "1", "2", ":", ".", ")", "*", " ", "\n", "A"]
)


@given(reply=st.lists(pieces | st.characters(), max_size=30).map("".join))
@example(reply="phylum: \u0130.")
@example(reply="phylum: \u017f.")
def test_any_reply_gives_an_option_or_none(reply: str) -> None:
    questions = [PHYLUM, CLASS]
    for choice, answered in zip(choices(reply, questions), questions, strict=True):
        assert choice is None or 0 <= choice < len(answered.options)
