"""Controls: what a cell is asked again under, to tell what its figures owe to but the image.

============  ====================================================================================
control       what differs
============  ====================================================================================
blind         no image: what question, options and their names give away
shuffled      the same options in another order: how far the order matters
circular      the options in every rotation; right is what is right in all: no letter is favoured
siblings      wrong options of the same parent: a taxonomy known by heart rules none of them out
taxonomy      no model: the solver of :mod:`sekd.analysis.solver`, on the options alone
============  ====================================================================================

None of them is given by the paper.
"""

from __future__ import annotations

import random
from dataclasses import replace

from sekd.config import Control
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.engines import Prompt
from sekd.stages.walk import PreparedSample


class WithoutImage(PreparedSample):
    """A sample whose image is not shown."""

    def prompt(self, token_ids: tuple[int, ...]) -> Prompt:
        """These token ids, which hold no placeholder."""
        return Prompt(token_ids, None, "")


def why_not(control: Control, dataset: Dataset) -> str | None:
    """Why a control makes no sense on a dataset; ``None`` where it does."""
    if control != "siblings":
        return None
    if dataset.samples.choices is not None:
        return "its rows bring their own options"
    if dataset.spec.distractors == "siblings":
        return "its wrong options are siblings already"
    return None


def controlled_dataset(control: Control | None, dataset: Dataset) -> Dataset:
    """The dataset that a control asks about: under ``siblings`` with other wrong options."""
    if control != "siblings":
        return dataset
    return replace(dataset, spec=dataset.spec.model_copy(update={"distractors": "siblings"}))


def controlled_samples(
    control: Control | None, picture: PreparedSample, seed: int
) -> list[PreparedSample]:
    """A picture as it is asked about under a control, rotation by rotation.

    Args:
        picture: with its questions made.
        seed: of the order under ``shuffled``, together with sample and level.
    """
    questions = picture.questions or ()
    if control == "blind":
        return [WithoutImage(picture.sample, picture.image, picture.image_key, questions)]
    if control == "shuffled":
        asked = [_shuffled(question, f"{seed}:{picture.sample.id}") for question in questions]
        return [replace(picture, questions=asked)]
    if control == "circular":
        num_rotations = max((len(question.options) for question in questions), default=1)
        return [
            replace(picture, questions=[_rotated(question, by) for question in questions])
            for by in range(num_rotations)
        ]
    return [picture]


def _rotated(question: Question, by: int) -> Question:
    by %= len(question.options)
    return replace(question, options=(*question.options[by:], *question.options[:by]))


def _shuffled(question: Question, seed: str) -> Question:
    """The same options in an order that is another one, where there is another one."""
    rng = random.Random(f"shuffled:{seed}:{question.level}")
    options = list(question.options)
    while tuple(options) == question.options and len(options) > 1:
        rng.shuffle(options)
    return replace(question, options=tuple(options))
