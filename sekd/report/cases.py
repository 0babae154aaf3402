"""Single images for the gallery: what became of each, chosen without looking at them.

An image's kind follows from which of three whole paths are right: the base's and the student's, as
the student has learned to answer, and the teacher's (the base, step by step). The same rows and
seed give the same cases, whatever the order of the rows, and no kind or dataset crowds out another.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.cell_key import PARADIGMS, CellKey
from sekd.analysis.results import Evaluation
from sekd.analysis.roles import roles
from sekd.config import BASE, STUDENT
from sekd.data.taxonomy import name_of

NUM_CASES = 48

_Answers: TypeAlias = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
"""Model and paradigm -> rows of one sample, level by level."""


@dataclass(frozen=True)
class CaseKind:
    """Cases of which the same whole paths are right.

    Attributes:
        base, student, teacher: whether that path is right; ``None`` where it may be either, or
            where there is no such path.
    """

    name: str
    meaning: str
    base: bool | None = None
    student: bool | None = None
    teacher: bool | None = None

    def includes(self, is_right: Mapping[str, bool]) -> bool:
        """Tell whether paths, by their role, are right and wrong as in this kind."""
        expected = {"base": self.base, "student": self.student, "teacher": self.teacher}
        return all(
            expected[role] is None or expected[role] == right for role, right in is_right.items()
        )


_KINDS = (
    CaseKind(
        "repaired",
        "the base was wrong at once; the student, taught step by step, is right",
        base=False,
        student=True,
        teacher=True,
    ),
    CaseKind(
        "beyond the teacher",
        "base and teacher were wrong; the student is right",
        base=False,
        student=True,
        teacher=False,
    ),
    CaseKind(
        "broken",
        "the base was right at once; the student is wrong",
        base=True,
        student=False,
    ),
    CaseKind(
        "missed",
        "the teacher was right; the student, like the base, is wrong at once",
        base=False,
        student=False,
        teacher=True,
    ),
    CaseKind(
        "teacher wrong",
        "the teacher was wrong, and the student is wrong too",
        base=False,
        student=False,
        teacher=False,
    ),
    CaseKind(
        "right before and after",
        "the base was right at once, and so is the student",
        base=True,
        student=True,
    ),
)
_KINDS_WITHOUT_TEACHER = (
    CaseKind("repaired", "the base was wrong; the student is right", base=False, student=True),
    CaseKind("broken", "the base was right; the student is wrong", base=True, student=False),
    CaseKind("both wrong", "base and student are wrong", base=False, student=False),
    CaseKind("both right", "base and student are right", base=True, student=True),
)
_KINDS_WITHOUT_STUDENT = (
    CaseKind("only step by step", "wrong at once, right in steps", base=False, teacher=True),
    CaseKind("only at once", "right at once, wrong in steps", base=True, teacher=False),
    CaseKind("both wrong", "wrong at once and in steps", base=False, teacher=False),
    CaseKind("both right", "right at once and in steps", base=True, teacher=True),
)
_KINDS_BY_ROLES: Mapping[frozenset[str], Sequence[CaseKind]] = {
    frozenset({"base", "student", "teacher"}): _KINDS,
    frozenset({"base", "student"}): _KINDS_WITHOUT_TEACHER,
    frozenset({"base", "teacher"}): _KINDS_WITHOUT_STUDENT,
}
"""Roles that were evaluated -> kinds that tell their images apart."""
_KIND_ORDER = [kind.name for kinds in _KINDS_BY_ROLES.values() for kind in kinds]


@dataclass(frozen=True)
class CaseLevel:
    """One level of a path.

    Attributes:
        name: as answered; empty where the reply could not be parsed.
    """

    rank: str
    name: str
    state: Literal["right", "wrong", "unparsed"]


@dataclass(frozen=True)
class CasePath:
    """The answers of one model in one paradigm."""

    model: str
    paradigm: str
    levels: Sequence[CaseLevel]


@dataclass(frozen=True)
class Case:
    """One image.

    Attributes:
        truth: names, level by level.
    """

    dataset: str
    sample_id: str
    kind: CaseKind
    truth: Sequence[str]
    paths: Sequence[CasePath]


@dataclass(frozen=True)
class Gallery:
    """The chosen cases, and the number of images of each kind, shown or not."""

    cases: Sequence[Case]
    counts: Sequence[tuple[CaseKind, int]]


def choose_cases(
    evaluation: Evaluation, *, limit: int = NUM_CASES, seed: int = 0
) -> Gallery | None:
    """Choose at most ``limit`` cases.

    Returns:
        ``None`` where no two of the three paths were predicted.
    """
    predictions = evaluation.predictions
    if predictions is None:
        return None
    learned = evaluation.config.distill.learned_paradigm if evaluation.config else "joint"
    pools: dict[tuple[str, str], list[str]] = {}
    kinds: dict[str, CaseKind] = {}
    for dataset in evaluation.datasets:
        rows = predictions.filter(pc.field("dataset") == dataset)
        for sample_id, kind in _kinds_of_samples(rows, dataset, learned).items():
            kinds[kind.name] = kind
            pools.setdefault((dataset, kind.name), []).append(sample_id)
    if not pools:
        return None
    chosen = _draw_in_turn(pools, limit, seed)
    cases = [
        case
        for dataset in evaluation.datasets
        for case in _build_cases(predictions, dataset, chosen.get(dataset, {}), kinds)
    ]
    counts = dict.fromkeys(sorted(kinds, key=_KIND_ORDER.index), 0)
    for (_, name), sample_ids in pools.items():
        counts[name] += len(sample_ids)
    return Gallery(
        sorted(cases, key=lambda case: _KIND_ORDER.index(case.kind.name)),
        [(kinds[name], count) for name, count in counts.items()],
    )


def _kinds_of_samples(rows: pa.Table, dataset: str, learned: str) -> dict[str, CaseKind]:
    """Return sample id -> its kind, for the samples that were answered in every role."""
    groups = rows.group_by(["model", "paradigm", "sample_id"])
    whole_paths = [
        (CellKey(dataset, row["model"], row["paradigm"]), row["sample_id"], row["correct_all"])
        for row in groups.aggregate([("correct", "all")]).to_pylist()
    ]
    role_of = roles({key for key, _, _ in whole_paths}, dataset, learned)
    is_right: dict[str, dict[str, bool]] = defaultdict(dict)
    for key, sample_id, is_all_right in whole_paths:
        if key in role_of:
            is_right[sample_id][role_of[key]] = is_all_right
    kinds = _KINDS_BY_ROLES.get(frozenset(role_of.values()), ())
    return {
        sample_id: next(kind for kind in kinds if kind.includes(paths))
        for sample_id, paths in is_right.items()
        if kinds and paths.keys() == set(role_of.values())
    }


def _draw_in_turn(
    pools: Mapping[tuple[str, str], Sequence[str]], limit: int, seed: int
) -> dict[str, dict[str, str]]:
    """Take one sample of each pool in turn until there are enough.

    Args:
        pools: (dataset, kind) -> sample ids.

    Returns:
        Dataset -> sample id -> kind.
    """
    shuffled = []
    for (dataset, kind), sample_ids in sorted(pools.items()):
        pool = [(dataset, kind, sample_id) for sample_id in sorted(sample_ids)]
        random.Random(f"{seed}:{dataset}:{kind}").shuffle(pool)
        shuffled.append(pool)
    in_turn = (sample for turn in zip_longest(*shuffled) for sample in turn if sample is not None)
    chosen: dict[str, dict[str, str]] = defaultdict(dict)
    for dataset, kind, sample_id in islice(in_turn, limit):
        chosen[dataset][sample_id] = kind
    return chosen


def _build_cases(
    predictions: pa.Table,
    dataset: str,
    chosen: Mapping[str, str],
    kinds: Mapping[str, CaseKind],
) -> list[Case]:
    """Gather the answers of the chosen samples of a dataset."""
    is_chosen = pc.and_(
        pc.equal(predictions["dataset"], dataset),
        pc.is_in(predictions["sample_id"], pa.array(chosen, pa.string())),
    )
    answers: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {
        sample_id: defaultdict(list) for sample_id in chosen
    }
    for row in predictions.filter(is_chosen).sort_by("level").to_pylist():
        answers[row["sample_id"]][row["model"], row["paradigm"]].append(row)
    return [
        _build_case(dataset, sample_id, kinds[chosen[sample_id]], by_cell)
        for sample_id, by_cell in answers.items()
    ]


def _build_case(dataset: str, sample_id: str, kind: CaseKind, answers: _Answers) -> Case:
    any_rows = next(iter(answers.values()))
    return Case(
        dataset=dataset,
        sample_id=sample_id,
        kind=kind,
        truth=[name_of(row["truth"]) for row in any_rows],
        paths=[
            CasePath(model, paradigm, [_build_level(row) for row in answers[model, paradigm]])
            for model, paradigm in sorted(answers, key=_reading_order)
        ],
    )


def _reading_order(cell: tuple[str, str]) -> tuple[int, str, int]:
    """Sort the base first, then the student, then others by name; paradigms as everywhere."""
    model, paradigm = cell
    first_models = (BASE, STUDENT)
    return (
        first_models.index(model) if model in first_models else len(first_models),
        model,
        PARADIGMS.index(paradigm) if paradigm in PARADIGMS else len(PARADIGMS),
    )


def _build_level(row: Mapping[str, Any]) -> CaseLevel:
    if row["prediction"] is None:
        return CaseLevel(row["rank"], "", "unparsed")
    state: Literal["right", "wrong"] = "right" if row["correct"] else "wrong"
    return CaseLevel(row["rank"], name_of(row["prediction"]), state)
