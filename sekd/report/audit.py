"""The audit of data as tables, and as lines about what was found."""

from __future__ import annotations

from collections.abc import Iterator

from sekd.analysis.audit import DataAudit
from sekd.analysis.question_audit import LetterShare, QuestionAudit
from sekd.data.taxonomy import name_of
from sekd.report.table import Column, Table, Value

_NUM_SHOWN = 5


def audit_tables(audit: DataAudit) -> Iterator[Table]:
    """Make the tables for a person; the last one only if datasets share images."""
    yield _questions_table(audit)
    yield _letters_table(audit)
    if audit.overlaps:
        yield _overlaps_table(audit)


def audit_findings(audit: DataAudit) -> Iterator[str]:
    """Write a line about each thing that cannot be used or is contradictory."""
    for questions in audit.questions:
        if questions.num_unusable:
            yield (
                f"{questions.dataset}: {questions.num_unusable:,} of {questions.num_samples:,} "
                f"samples have no questions to audit; the first: {questions.first_unusable}"
            )
    for images in audit.images:
        if images.num_unreadable:
            yield (
                f"{images.dataset}: {images.num_unreadable:,} images cannot be read; the first: "
                f"{images.first_unreadable}"
            )
    for overlap in audit.overlaps:
        first, second = overlap.datasets
        for one, other in overlap.examples[:_NUM_SHOWN]:
            yield f"{first} {one} is or looks like {second} {other}"
    if audit.disagreements:
        yield f"{len(audit.disagreements):,} images occur under several labels"
    for disagreement in audit.disagreements[:_NUM_SHOWN]:
        yield ", ".join(
            f"{dataset} {sample_id}: {name_of(label)}"
            for dataset, sample_id, label in disagreement.samples
        )


def _questions_table(audit: DataAudit) -> Table:
    return Table(
        name="questions",
        title="HCA without the image and by chance, and shares of questions, in percent",
        columns=[
            Column("dataset", "dataset"),
            Column("num_samples", "samples"),
            Column("blind_hca", "blind"),
            Column("chance_hca", "chance"),
            Column("single_option", "1 option"),
            Column("few_siblings", "no siblings"),
            Column("num_classes", "classes"),
            Column("num_own_classes", "own"),
        ],
        num_names=1,
        rows=[_questions_row(questions) for questions in audit.questions],
        groups=[len(audit.questions)],
    )


def _questions_row(questions: QuestionAudit) -> list[Value]:
    shares = questions.shares
    return [
        questions.dataset,
        questions.num_samples,
        questions.blind_hca,
        questions.chance_hca,
        shares.single_option if shares else None,
        shares.few_siblings if shares else None,
        questions.num_classes,
        questions.num_own_classes,
    ]


def _letters_table(audit: DataAudit) -> Table:
    def over(letter: LetterShare) -> float:
        return letter.share - letter.expected

    rows: list[list[Value]] = []
    for questions in audit.questions:
        if questions.letters:
            most, least = max(questions.letters, key=over), min(questions.letters, key=over)
            shown = [(letter.letter, letter.share, letter.expected) for letter in (most, least)]
            rows.append([questions.dataset, *shown[0], *shown[1]])
    return Table(
        name="letters",
        title="Letters that are right most and least often, in percent of the questions",
        columns=[
            Column("dataset", "dataset"),
            Column("most", "most", is_text=True),
            Column("most_share", "share"),
            Column("most_expected", "if even"),
            Column("least", "least", is_text=True),
            Column("least_share", "share"),
            Column("least_expected", "if even"),
        ],
        num_names=1,
        rows=rows,
        groups=[len(rows)],
    )


def _overlaps_table(audit: DataAudit) -> Table:
    return Table(
        name="overlaps",
        title="Images of a dataset that another one, or itself, has once more",
        columns=[
            Column("first", "dataset"),
            Column("second", "has in common with"),
            Column("num_identical", "identical"),
            Column("num_alike", "looking alike"),
        ],
        num_names=2,
        rows=[
            [*overlap.datasets, overlap.num_identical, overlap.num_alike]
            for overlap in audit.overlaps
        ],
        groups=[len(audit.overlaps)],
    )
