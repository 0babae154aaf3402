"""Audit the questions of a dataset: can they be answered without looking at the image?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from sekd.analysis.question_shares import QuestionShares
from sekd.analysis.solver import Solution
from sekd.data.branching import Branches
from sekd.data.questions import LETTERS, Question
from sekd.data.samples import Dataset, Sample, questions_of
from sekd.errors import SampleError

_SAMPLES_PER_CHUNK = 1 << 14


@dataclass(frozen=True)
class LetterShare:
    """How often a letter is that of the right option, in percent of the questions.

    Attributes:
        expected: what it would be if each place were as likely in every question.
    """

    letter: str
    share: float
    expected: float


@dataclass(frozen=True)
class QuestionAudit:
    """The findings about the questions of one dataset.

    Attributes:
        num_unusable: samples without a label, or whose questions cannot be made.
        first_unusable: the reason of the first one.
        blind_hca: expected HCA, in percent, of a solver that knows the taxonomy and the options and
            sees no image (:mod:`sekd.analysis.solver`).
        chance_hca: the same of one that does not know the taxonomy.
        num_classes: leaves that some sample is labelled with.
        num_leaves: leaves of the taxonomy.
        num_own_classes: classes, by their whole path, that no other dataset has.
    """

    dataset: str
    num_samples: int
    num_unusable: int
    first_unusable: str | None
    blind_hca: float | None
    chance_hca: float | None
    shares: QuestionShares | None
    letters: tuple[LetterShare, ...]
    num_classes: int
    num_leaves: int
    num_own_classes: int


def audit_questions(dataset: Dataset, classes: set[str], others: set[str]) -> QuestionAudit:
    """Audit the questions and the classes of a dataset.

    Args:
        classes: node ids of the leaves that its samples are labelled with.
        others: the same of all other datasets.
    """
    tally = _Tally()
    chunks = (tally.add(dataset, part) for part in dataset.samples.chunks(_SAMPLES_PER_CHUNK))
    shares = QuestionShares.of(chunks)
    return QuestionAudit(
        dataset=dataset.name,
        num_samples=len(dataset.samples),
        num_unusable=tally.num_unusable,
        first_unusable=tally.first_unusable,
        blind_hca=100 * float(np.mean(tally.blind)) if tally.blind else None,
        chance_hca=100 * float(np.mean(tally.chance)) if tally.chance else None,
        shares=shares,
        letters=tally.letter_shares(),
        num_classes=len(classes),
        num_leaves=len(dataset.taxonomy.leaf_ids),
        num_own_classes=len(classes - others),
    )


class _Tally:
    """Counts over the questions of a dataset."""

    def __init__(self) -> None:
        self.num_unusable = 0
        self.first_unusable: str | None = None
        self.blind: list[float] = []
        self.chance: list[float] = []
        self._right = np.zeros(len(LETTERS))
        self._expected = np.zeros(len(LETTERS))

    def add(self, dataset: Dataset, samples: Iterable[Sample]) -> tuple[pa.Array, pa.Array]:
        """Count some samples; return the options and the right nodes of their questions."""
        options: list[list[str]] = []
        truths: list[str] = []
        for sample in samples:
            try:
                questions = _questions_about(dataset, sample)
            except SampleError as error:
                self.num_unusable += 1
                self.first_unusable = self.first_unusable or f"{sample.id}: {error}"
                continue
            by_chance = math.prod(1 / len(question.options) for question in questions)
            self.chance.append(by_chance)
            if dataset.spec.options == "children":
                # The options of a descent follow from the answers, so they rule nothing out.
                self.blind.append(by_chance)
                continue
            self.blind.append(1 / Solution([question.options for question in questions]).num_paths)
            for question in questions:
                assert question.truth is not None
                num_options = len(question.options)
                self._right[question.options.index(question.truth)] += 1
                self._expected[:num_options] += 1 / num_options
                options.append([option.id for option in question.options])
                truths.append(question.truth.id)
        return pa.array(options, pa.list_(pa.string())), pa.array(truths, pa.string())

    def letter_shares(self) -> tuple[LetterShare, ...]:
        """Return the shares of the letters that some question has."""
        num_questions = float(self._right.sum())
        return tuple(
            LetterShare(letter, 100 * share / num_questions, 100 * even / num_questions)
            for letter, share, even in zip(
                LETTERS, self._right.tolist(), self._expected.tolist(), strict=True
            )
            if even
        )


def _questions_about(dataset: Dataset, sample: Sample) -> list[Question]:
    """Return a sample's questions; those of a descent are the ones on the right path.

    Raises:
        SampleError: if the sample has no label or its questions cannot be made.
    """
    if sample.leaf is None:
        raise SampleError("it has no label")
    questions = questions_of(dataset, sample)
    if questions is not None:
        return questions
    path = [dataset.taxonomy.root, *dataset.taxonomy.path(sample.leaf), sample.leaf]
    return [
        Question(parent.depth + 1, branches.nodes, truth)
        for parent, truth in pairwise(path)
        if (branches := Branches.below(dataset.taxonomy, parent)) is not None
    ]
