"""Compare the HCA of cells, and tell differences from noise.

A difference counts only where McNemar's exact test finds it, corrected by Holm's method for the
number of comparisons of the evaluation; without a paired comparison, only where the two cells' own
intervals do not touch. Everything else is within noise, gains and losses alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sekd.analysis.cell_key import PARADIGMS, CellKey
from sekd.analysis.estimates import Estimate
from sekd.analysis.results import Evaluation
from sekd.analysis.roles import student_and_teacher
from sekd.config import BASE, STUDENT
from sekd.report.formats import EN_DASH, format_interval, format_number

NO_BREAK, _WORD_JOINER = "\N{NO-BREAK SPACE}", "\N{WORD JOINER}"
_SIGNIFICANT = 0.05
WAYS_OF_ASKING = {
    "joint": "asked for the whole path at once",
    "joint_forced": "asked for the letters of the whole path at once",
    "independent": "asked one level at a time",
    "conditioned": "asked step by step",
    "open": "asked to name the whole path",
    "descent": "descending among children",
}
"""Paradigm -> how a model was asked, in a sentence."""
ChangeVerdict: TypeAlias = Literal["gain", "loss", "noise"]


@dataclass(frozen=True)
class Change:
    """The step from one cell's HCA to another's.

    Attributes:
        paired: new minus old in percentage points over the same images; ``None`` if the cells were
            not compared.
        p_value: McNemar's, corrected for the number of comparisons; ``None`` like ``paired``.
    """

    before: CellKey
    after: CellKey
    old: Estimate
    new: Estimate
    paired: Estimate | None
    p_value: float | None

    @classmethod
    def between(cls, evaluation: Evaluation, before: CellKey, after: CellKey) -> Change | None:
        """Return ``None`` if one of the cells was not measured."""
        old_cell, new_cell = evaluation.cells.get(before), evaluation.cells.get(after)
        old = old_cell.rate("hca") if old_cell else None
        new = new_cell.rate("hca") if new_cell else None
        if old is None or new is None:
            return None
        comparison = evaluation.find_comparison(after, before)
        paired = comparison.paired.differences.rate("hca") if comparison else None
        p_value = evaluation.corrected_p(comparison) if comparison else None
        return cls(before, after, old, new, paired, p_value)

    @property
    def points(self) -> float:
        """Percentage points, negative for a drop."""
        return self.paired.value if self.paired else self.new.value - self.old.value

    @property
    def is_against_teacher(self) -> bool:
        """The student, asked at once, is compared with its teacher, asked step by step."""
        return self.before.paradigm != self.after.paradigm

    @property
    def old_steps(self) -> str:
        """How a teacher was asked step by step."""
        return "descent" if self.before.paradigm == "descent" else "walk"

    @property
    def verdict(self) -> ChangeVerdict:
        """Tell whether the change is more than noise, and its direction."""
        if self.p_value is not None:
            is_clear = self.p_value <= _SIGNIFICANT
            is_gain, is_loss = is_clear and self.points > 0, is_clear and self.points < 0
        else:
            is_gain, is_loss = self.new.low > self.old.high, self.new.high < self.old.low
        if is_gain:
            return "gain"
        return "loss" if is_loss else "noise"

    @property
    def evidence(self) -> str:
        """The reason for the verdict, in a few words."""
        if self.paired:
            interval = f"95{NO_BREAK}%: {unbroken(format_interval(self.paired, is_signed=True))}"
            is_close = self.paired.low > 0 or self.paired.high < 0
            if self.verdict == "noise" and is_close and self.p_value is not None:
                return f"{interval}; corrected p{NO_BREAK}={NO_BREAK}{self.p_value:.2g}"
            return interval
        return "intervals overlap" if self.verdict == "noise" else "intervals do not touch"

    def __str__(self) -> str:
        arrow = "\N{RIGHTWARDS ARROW}"
        old, new = format_number(self.old.value), format_number(self.new.value)
        return unbroken(f"{old} {arrow} {new} %")


def learned_changes(evaluation: Evaluation) -> list[Change]:
    """Return student against base in what the student learned, by dataset.

    That is all levels at once, with the form of the reply given, since a gain is then none in form;
    or open naming for a student that learned nothing else. Where it was not evaluated, another
    paradigm stands for it: the first one that was.
    """
    learned = evaluation.config.distill.learned_paradigm if evaluation.config else "joint"
    first = ("joint_forced",) if learned == "joint" else ()
    for paradigm in (*first, learned, *PARADIGMS):
        changes = [_change_of_student(evaluation, name, paradigm) for name in evaluation.datasets]
        found = [change for change in changes if change is not None]
        if found:
            return found
    return []


def other_changes(evaluation: Evaluation, gain: Change) -> list[Change]:
    """Return student against base in every cell but that of ``gain``, the largest drop first."""
    changes = [
        change
        for dataset in evaluation.datasets
        for paradigm in PARADIGMS
        if (change := _change_of_student(evaluation, dataset, paradigm))
        and change.after != gain.after
    ]
    return sorted(changes, key=lambda change: change.points)


def teacher_changes(evaluation: Evaluation) -> list[Change]:
    """Return the student asked at once against its teacher, by dataset."""
    changes = [
        Change.between(evaluation, teacher, student)
        for dataset in evaluation.datasets
        for student, teacher in student_and_teacher(evaluation.cells, dataset)
    ]
    return [change for change in changes if change is not None]


def clear_losses(evaluation: Evaluation, gain: Change) -> list[Change]:
    """Return the drops that are more than noise, against the base or the teacher, largest first."""
    changes = [*other_changes(evaluation, gain), *teacher_changes(evaluation)]
    losses = [change for change in changes if change.verdict == "loss"]
    return sorted(losses, key=lambda change: change.points)


def unbroken(text: str) -> str:
    """Return the same text without a place at which a line can end."""
    return text.replace(" ", NO_BREAK).replace(EN_DASH, f"{_WORD_JOINER}{EN_DASH}{_WORD_JOINER}")


def _change_of_student(evaluation: Evaluation, dataset: str, paradigm: str) -> Change | None:
    return Change.between(
        evaluation, CellKey(dataset, BASE, paradigm), CellKey(dataset, STUDENT, paradigm)
    )
