"""Each control changes what it says and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from sekd.config import Control
from sekd.data.controls import CONTROLS
from sekd.data.questions import Question
from sekd.data.samples import Dataset, questions_of


@pytest.fixture
def questions(seen: Dataset) -> list[Question]:
    """The questions of the first sample of the drawn world."""
    return questions_of(seen, seen.samples[0]) or []


def variants(name: str, questions: list[Question], seed: int = 0) -> list[list[Question]]:
    return CONTROLS[name].variants(questions, "1", seed)


def test_the_registry_holds_every_control_of_the_config() -> None:
    assert set(CONTROLS) == set(get_args(Control))
    assert all(control.meaning for control in CONTROLS.values())


def test_only_blind_hides_the_image_from_a_model() -> None:
    asked = {name: control for name, control in CONTROLS.items() if control.asks_model}
    assert set(CONTROLS) - set(asked) == {"taxonomy"}
    assert [name for name, control in asked.items() if not control.shows_image] == ["blind"]


def test_only_shuffled_depends_on_the_seed(questions: list[Question]) -> None:
    for name, control in CONTROLS.items():
        is_same = variants(name, questions, seed=1) == variants(name, questions, seed=2)
        assert is_same is not control.is_seeded
    assert CONTROLS["shuffled"].is_seeded


@pytest.mark.parametrize("name", ["blind", "siblings"])
def test_questions_stay_as_they_are_where_only_the_prompt_or_dataset_differs(
    name: str, questions: list[Question]
) -> None:
    assert variants(name, questions) == [questions]


def test_shuffled_options_are_the_same_nodes_in_another_order(questions: list[Question]) -> None:
    (shuffled,) = variants("shuffled", questions)
    for before, after in zip(questions, shuffled, strict=True):
        assert after.options != before.options
        assert set(after.options) == set(before.options)
        assert replace(after, options=before.options) == before


def test_the_order_follows_from_seed_and_sample(questions: list[Question]) -> None:
    assert variants("shuffled", questions, 1) == variants("shuffled", questions, 1)
    assert variants("shuffled", questions, 1) != variants("shuffled", questions, 2)
    other_sample = CONTROLS["shuffled"].variants(questions, "2", 1)
    assert variants("shuffled", questions, 1) != other_sample


def test_a_single_option_has_no_other_order(questions: list[Question]) -> None:
    single = [replace(questions[0], options=questions[0].options[:1])]
    assert variants("shuffled", single) == [single]


def test_circular_shows_every_option_under_every_letter(questions: list[Question]) -> None:
    rotations = variants("circular", questions)
    assert len(rotations) == 4
    assert rotations[0] == questions
    for level, question in enumerate(questions):
        shown = [rotation[level].options for rotation in rotations]
        for letter in range(len(question.options)):
            assert {options[letter] for options in shown} == set(question.options)


def test_circular_repeats_the_rotations_of_a_question_with_fewer_options(
    questions: list[Question],
) -> None:
    four, short = questions[1], replace(questions[2], options=questions[2].options[:2])
    rotations = variants("circular", [four, short])
    a, b = short.options
    assert [rotation[1].options for rotation in rotations] == [(a, b), (b, a), (a, b), (b, a)]


def test_siblings_come_from_the_same_parent(seen: Dataset) -> None:
    """The drawn world has three children a node, so one of four options is no sibling."""
    controlled = CONTROLS["siblings"].dataset(seen)
    for sample in controlled.samples:
        for question in questions_of(controlled, sample) or ():
            assert question.truth is not None
            same = [node for node in question.options if node.parent == question.truth.parent]
            assert len(same) == 3
    assert [sample.id for sample in controlled.samples] == [sample.id for sample in seen.samples]


def test_siblings_make_no_sense_where_options_are_given_or_siblings(seen: Dataset) -> None:
    siblings = CONTROLS["siblings"]
    already = siblings.dataset(seen)
    given = replace(seen, samples=replace(seen.samples, choices=[(("a",),)] * len(seen.samples)))
    assert siblings.why_not(seen) is None
    assert "siblings already" in (siblings.why_not(already) or "")
    assert "their own options" in (siblings.why_not(given) or "")
    assert CONTROLS["blind"].why_not(given) is None


@pytest.mark.parametrize("name", sorted(set(CONTROLS) - {"siblings"}))
def test_every_other_control_asks_about_the_same_dataset(name: str, seen: Dataset) -> None:
    assert CONTROLS[name].dataset(seen) is seen
