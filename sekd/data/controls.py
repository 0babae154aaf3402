"""Controls: the same evaluation under a changed condition, to see what a score owes to other things
than the image.

A control is one class below and one entry of :data:`CONTROLS`; its name is also one of
:data:`sekd.config.Control`. No control is given by the paper.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from sekd.data.questions import Question
from sekd.data.samples import Dataset


class ControlCondition:
    """A control changes what the model is shown. The methods of this base class change nothing.

    Attributes:
        name: in the config, in the column ``control`` and in tables.
        meaning: what the control does and what it shows, for the report.
        asks_model: False where no model is asked, so that there are no cells of this control.
        shows_image: False where prompts hold no image.
        is_seeded: True where the questions depend on ``evaluate.seed``, which is then part of the
            fingerprint of the control's cells.
        paradigms: those in which the control is asked.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    asks_model: ClassVar[bool] = True
    shows_image: ClassVar[bool] = True
    is_seeded: ClassVar[bool] = False
    paradigms: ClassVar[Sequence[str]] = ("joint", "joint_forced", "independent", "conditioned")

    def why_not(self, dataset: Dataset) -> str | None:
        """Return why this control makes no sense on a dataset, or ``None`` where it does."""
        return None

    def dataset(self, dataset: Dataset) -> Dataset:
        """Return the dataset whose questions are asked under this control."""
        return dataset

    def variants(
        self, questions: Sequence[Question], sample_id: str, seed: int
    ) -> list[list[Question]]:
        """Return the lists of questions that a model answers in place of ``questions``.

        Args:
            questions: all questions of one sample.
            seed: of the evaluation; only a control that ``is_seeded`` uses it.
        """
        return [list(questions)]


class Blind(ControlCondition):
    """No image is shown. The questions stay as they are."""

    name = "blind"
    meaning = "the same questions without the image: what words and options give away"
    shows_image = False
    paradigms = (*ControlCondition.paradigms, "open", "descent")


class Shuffled(ControlCondition):
    """The options of every question are shown in another order."""

    name = "shuffled"
    meaning = "the options in another order: how much hangs on one order"
    is_seeded = True

    def variants(
        self, questions: Sequence[Question], sample_id: str, seed: int
    ) -> list[list[Question]]:
        """Return one list, in which every question has another order of its options.

        The order depends on the seed, the sample and the level alone. A question with a single
        option stays as it is.
        """
        return [[_shuffle_options(question, f"{seed}:{sample_id}") for question in questions]]


class Circular(ControlCondition):
    """The options are shown in every rotation; only what is right in all of them is right."""

    name = "circular"
    meaning = "the options in every rotation, right only where all are: no letter is favoured"

    def variants(
        self, questions: Sequence[Question], sample_id: str, seed: int
    ) -> list[list[Question]]:
        """Return one list per rotation, as many as the longest question has options."""
        num_rotations = max((len(question.options) for question in questions), default=1)
        return [
            [_rotate_options(question, by) for question in questions] for by in range(num_rotations)
        ]


class Siblings(ControlCondition):
    """Wrong options have the parent of the right one, so that the taxonomy rules none of them out.

    Where a node has too few siblings, other nodes of its level fill up the options.
    """

    name = "siblings"
    meaning = "wrong options of the same parent, so that they do not give the path away"

    def why_not(self, dataset: Dataset) -> str | None:
        """Refuse a dataset whose options are given, or are siblings without this control."""
        if dataset.samples.choices is not None:
            return "its rows bring their own options"
        if dataset.spec.distractors == "siblings":
            return "its wrong options are siblings already"
        return None

    def dataset(self, dataset: Dataset) -> Dataset:
        """Return the dataset with ``distractors: siblings``."""
        return replace(dataset, spec=dataset.spec.model_copy(update={"distractors": "siblings"}))


class TaxonomyAlone(ControlCondition):
    """No model is asked: the solver of :mod:`sekd.analysis.solver` answers from the options."""

    name = "taxonomy"
    meaning = "a solver that knows the taxonomy and sees the options, never an image"
    asks_model = False
    shows_image = False


CONTROLS: Mapping[str, ControlCondition] = {
    control.name: control
    for control in (Blind(), Shuffled(), Circular(), Siblings(), TaxonomyAlone())
}
"""Name -> control, in the order in which the report explains them."""


def _rotate_options(question: Question, by: int) -> Question:
    by %= len(question.options)
    return replace(question, options=(*question.options[by:], *question.options[:by]))


def _shuffle_options(question: Question, seed: str) -> Question:
    """Return the same options in another order, where there is another one."""
    rng = random.Random(f"shuffled:{seed}:{question.level}")
    options = list(question.options)
    while tuple(options) == question.options and len(options) > 1:
        rng.shuffle(options)
    return replace(question, options=tuple(options))
