"""In which cells a student and its teacher are looked at, of those that were evaluated."""

from __future__ import annotations

from collections.abc import Container, Iterable

from sekd.analysis.cell_key import PARADIGMS, CellKey
from sekd.config import BASE, STUDENT

QUIZ_AT_ONCE = ("joint", "joint_forced")
AT_ONCE = (*QUIZ_AT_ONCE, "open")
"""Paradigms in which a student answers all levels at once, the first choice first."""
STEP_BY_STEP = ("conditioned", "descent")
"""Paradigms in which a teacher answers, the first choice first."""


def find_key(
    keys: Container[CellKey], dataset: str, model: str, paradigms: Iterable[str]
) -> CellKey | None:
    """Return the key of the first of some paradigms in which a model was asked."""
    candidates = (CellKey(dataset, model, paradigm) for paradigm in paradigms)
    return next((key for key in candidates if key in keys), None)


def teacher_key(keys: Container[CellKey], dataset: str) -> CellKey | None:
    """Return the cell of the teacher: the base, asked step by step."""
    return find_key(keys, dataset, BASE, STEP_BY_STEP)


def student_and_teacher(keys: Container[CellKey], dataset: str) -> list[tuple[CellKey, CellKey]]:
    """Return the student beside its teacher: by the quiz at once, and by open naming."""
    teacher = teacher_key(keys, dataset)
    students = [find_key(keys, dataset, STUDENT, ways) for ways in (QUIZ_AT_ONCE, ("open",))]
    return [(key, teacher) for key in students if key is not None and teacher is not None]


def student_key(keys: Container[CellKey], dataset: str, learned: str) -> CellKey | None:
    """Return the cell of the student: as it has learned to answer, at once, or otherwise."""
    return find_key(keys, dataset, STUDENT, (learned, *AT_ONCE, *PARADIGMS))


def roles(keys: Container[CellKey], dataset: str, learned: str) -> dict[CellKey, str]:
    """Return which cells are those of "base", "student" and "teacher", as far as there are any.

    The base is asked as the student is.

    Args:
        learned: the paradigm that asks for what the student has learned.
    """
    student, teacher = student_key(keys, dataset, learned), teacher_key(keys, dataset)
    ways = (learned, *AT_ONCE) if student is None else (student.paradigm,)
    base = find_key(keys, dataset, BASE, ways)
    found = {teacher: "teacher", student: "student", base: "base"}
    return {key: role for key, role in found.items() if key is not None}
