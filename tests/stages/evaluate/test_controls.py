"""Each control does what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from sekd.config import Control
from sekd.data.questions import Question
from sekd.data.samples import Dataset, questions_of
from sekd.stages.evaluate.controls import (
    controlled_dataset,
    controlled_samples,
    why_not,
)
from sekd.stages.walk import PreparedSample


@pytest.fixture
def picture(seen: Dataset) -> PreparedSample:
    sample = seen.samples[0]
    return PreparedSample(sample, Image.new("RGB", (56, 56)), "key", questions_of(seen, sample))


def asked(picture: PreparedSample, control: Control | None, seed: int = 0) -> list[list[Question]]:
    return [list(each.questions or ()) for each in controlled_samples(control, picture, seed)]


def test_without_a_control_nothing_is_changed(picture: PreparedSample) -> None:
    assert controlled_samples(None, picture, 0) == [picture]


def test_blind_prompts_hold_no_image(picture: PreparedSample) -> None:
    (unseen,) = controlled_samples("blind", picture, 0)
    prompt = unseen.prompt((1, 2))
    assert (prompt.image, prompt.image_key, prompt.token_ids) == (None, "", (1, 2))
    assert unseen.questions == picture.questions


def test_shuffled_options_are_the_same_nodes_in_another_order(picture: PreparedSample) -> None:
    (questions,) = asked(picture, "shuffled")
    for before, after in zip(picture.questions or (), questions, strict=True):
        assert after.options != before.options
        assert set(after.options) == set(before.options)
        assert replace(after, options=before.options) == before


def test_the_order_follows_from_seed_and_sample(picture: PreparedSample) -> None:
    assert asked(picture, "shuffled", 1) == asked(picture, "shuffled", 1)
    assert asked(picture, "shuffled", 1) != asked(picture, "shuffled", 2)


def test_a_single_option_has_no_other_order(picture: PreparedSample) -> None:
    (question, *_) = picture.questions or ()
    alone = replace(picture, questions=[replace(question, options=question.options[:1])])
    assert asked(alone, "shuffled") == asked(alone, None)


def test_circular_shows_every_option_under_every_letter(picture: PreparedSample) -> None:
    rotations = asked(picture, "circular")
    assert len(rotations) == 4
    assert rotations[0] == list(picture.questions or ())
    for level, question in enumerate(picture.questions or ()):
        shown = [rotation[level].options for rotation in rotations]
        for place in range(len(question.options)):
            assert {options[place] for options in shown} == set(question.options)


def test_siblings_come_from_the_same_parent(seen: Dataset) -> None:
    """The drawn world has three children a node, so one of four options is no sibling."""
    controlled = controlled_dataset("siblings", seen)
    for sample in controlled.samples:
        for question in questions_of(controlled, sample) or ():
            assert question.truth is not None
            same = [node for node in question.options if node.parent == question.truth.parent]
            assert len(same) == 3
    assert [sample.id for sample in controlled.samples] == [sample.id for sample in seen.samples]


def test_siblings_make_no_sense_where_options_are_given_or_siblings(seen: Dataset) -> None:
    already = controlled_dataset("siblings", seen)
    given = replace(seen, samples=replace(seen.samples, choices=[(("a",),)] * len(seen.samples)))
    assert why_not("siblings", seen) is None
    assert "siblings already" in (why_not("siblings", already) or "")
    assert "their own options" in (why_not("siblings", given) or "")
    assert why_not("blind", given) is None
