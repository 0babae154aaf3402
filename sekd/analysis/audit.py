"""Audit datasets before a model is asked: what they give away, and where they disagree.

Per dataset: the expected score of a solver that sees no image, questions that are easier than they
look, the letters of right answers, and classes. Across datasets: images that are identical or look
alike, and identical images with different labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sekd.analysis.image_audit import (
    Disagreement,
    ImageAudit,
    Overlap,
    find_disagreements,
    find_overlaps,
    look_at,
)
from sekd.analysis.question_audit import QuestionAudit, audit_questions
from sekd.data.samples import Dataset


@dataclass(frozen=True)
class DataAudit:
    """The audit of some datasets.

    Attributes:
        overlaps: the pairs of datasets that share an image.
        disagreements: identical images with different labels, over all datasets.
    """

    questions: tuple[QuestionAudit, ...]
    images: tuple[ImageAudit, ...]
    overlaps: tuple[Overlap, ...]
    disagreements: tuple[Disagreement, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold."""
        return asdict(self)


def audit(datasets: Sequence[Dataset], advance: Callable[[int], None]) -> DataAudit:
    """Audit datasets: their questions, and all of their images.

    Args:
        advance: called with the number of images read since the last call.
    """
    classes = {dataset.name: _classes_of(dataset) for dataset in datasets}
    questions = [
        audit_questions(
            dataset,
            classes[dataset.name],
            set[str]().union(*(classes[name] for name in classes if name != dataset.name)),
        )
        for dataset in datasets
    ]
    looked_at = [look_at(dataset, advance) for dataset in datasets]
    seen = [images for _, images in looked_at]
    return DataAudit(
        tuple(questions),
        tuple(images for images, _ in looked_at),
        tuple(find_overlaps(seen)),
        tuple(find_disagreements(seen)),
    )


def _classes_of(dataset: Dataset) -> set[str]:
    return {leaf for leaf in dataset.samples.leaves.unique().to_pylist() if leaf is not None}
