"""A control is applied to a prepared sample: its image, and the variants of its questions."""

from __future__ import annotations

import pytest
from PIL import Image

from sekd.data.controls import CONTROLS, ControlCondition
from sekd.data.samples import Dataset, questions_of
from sekd.stages.evaluate.controls import apply_control
from sekd.stages.prepare import PreparedSample


@pytest.fixture
def prepared(seen: Dataset) -> PreparedSample:
    sample = seen.samples[0]
    return PreparedSample(sample, Image.new("RGB", (56, 56)), "key", questions_of(seen, sample))


def test_without_a_control_nothing_is_changed(prepared: PreparedSample) -> None:
    assert apply_control(ControlCondition(), prepared, 0) == [prepared]


def test_blind_prompts_hold_no_image(prepared: PreparedSample) -> None:
    (blind,) = apply_control(CONTROLS["blind"], prepared, 0)
    prompt = blind.prompt((1, 2))
    assert (prompt.image, prompt.image_key, prompt.token_ids) == (None, "", (1, 2))
    assert blind.questions == prepared.questions


@pytest.mark.parametrize("name", ["shuffled", "circular"])
def test_every_variant_shows_the_image_and_the_questions_of_the_control(
    name: str, prepared: PreparedSample
) -> None:
    control, questions = CONTROLS[name], prepared.questions or ()
    variants = apply_control(control, prepared, 3)
    assert [variant.questions for variant in variants] == control.variants(
        questions, prepared.sample.id, 3
    )
    assert all(variant.prompt((1,)) == prepared.prompt((1,)) for variant in variants)
