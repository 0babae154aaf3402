"""Single images for the gallery: what became of each, chosen without looking at them.

An image's kind follows from which of three whole paths are right: the base's and the student's
joint one, and the teacher's (the base, step by step). The same rows and seed give the same cases,
whatever the order of the rows, and no kind or dataset crowds out another.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.results import PARADIGMS, Evaluation
from sekd.config import BASE, STUDENT
from sekd.data.taxonomy import name_of

NUM_CASES = 48

Role = Literal["before", "after", "teacher"]
ROLES: Mapping[Role, tuple[str, str]] = {
    "before": (BASE, "joint"),
    "after": (STUDENT, "joint"),
    "teacher": (BASE, "conditioned"),
}
Right: TypeAlias = Mapping[Role, bool]


@dataclass(frozen=True)
class Kind:
    """Cases of which the same paths are right; a role that is not named may be either."""

    name: str
    meaning: str
    right: Right


_KINDS = [
    Kind(
        "repaired",
        "the base was wrong at once; the student, taught by its walk, is right",
        {"before": False, "after": True, "teacher": True},
    ),
    Kind(
        "beyond the teacher",
        "base and teacher were wrong; the student is right",
        {"before": False, "after": True, "teacher": False},
    ),
    Kind(
        "broken",
        "the base was right at once; the student is wrong",
        {"before": True, "after": False},
    ),
    Kind(
        "missed",
        "the teacher was right; the student, like the base, is wrong at once",
        {"before": False, "after": False, "teacher": True},
    ),
    Kind(
        "teacher wrong",
        "the teacher was wrong, and the student is wrong too",
        {"before": False, "after": False, "teacher": False},
    ),
    Kind(
        "right before and after",
        "the base was right at once, and so is the student",
        {"before": True, "after": True},
    ),
]
_KINDS_WITHOUT_TEACHER = [
    Kind("repaired", "the base was wrong; the student is right", {"before": False, "after": True}),
    Kind("broken", "the base was right; the student is wrong", {"before": True, "after": False}),
    Kind("both wrong", "base and student are wrong", {"before": False, "after": False}),
    Kind("both right", "base and student are right", {"before": True, "after": True}),
]
_KINDS_WITHOUT_STUDENT = [
    Kind("only step by step", "wrong at once, right in steps", {"before": False, "teacher": True}),
    Kind("only at once", "right at once, wrong in steps", {"before": True, "teacher": False}),
    Kind("both wrong", "wrong at once and in steps", {"before": False, "teacher": False}),
    Kind("both right", "right at once and in steps", {"before": True, "teacher": True}),
]


@dataclass(frozen=True)
class CaseLevel:
    """One level of a path."""

    rank: str
    name: str
    """As answered; empty where the reply could not be parsed."""
    state: Literal["right", "wrong", "unparsed", "unlabelled"]


@dataclass(frozen=True)
class CasePath:
    """What one model answered in one paradigm."""

    model: str
    paradigm: str
    steps: Sequence[CaseLevel]

    @property
    def is_right(self) -> bool:
        """Every labelled level is."""
        return all(step.state in ("right", "unlabelled") for step in self.steps)


@dataclass(frozen=True)
class Case:
    """One image."""

    dataset: str
    sample_id: str
    kind: Kind
    truth: Sequence[str]
    """Names, level by level; empty where not labelled."""
    walks: Sequence[CasePath]


@dataclass(frozen=True)
class Gallery:
    """The chosen cases, and how many of each kind there are in all."""

    cases: Sequence[Case]
    counts: Sequence[tuple[Kind, int]]


def choose_cases(results: Evaluation, *, limit: int = NUM_CASES, seed: int = 0) -> Gallery | None:
    """At most ``limit`` cases; ``None`` where too few kinds of answers were recorded to compare."""
    table = results.predictions
    if table is None:
        return None
    pools: dict[tuple[str, str], list[str]] = {}
    kinds: dict[str, Kind] = {}
    for dataset in results.datasets:
        for sample_id, kind in _kinds_of(table.filter(pc.field("dataset") == dataset)).items():
            kinds[kind.name] = kind
            pools.setdefault((dataset, kind.name), []).append(sample_id)
    if not pools:
        return None
    order = [kind.name for kind in (*_KINDS, *_KINDS_WITHOUT_TEACHER, *_KINDS_WITHOUT_STUDENT)]
    chosen = _balanced(pools, limit, seed)
    cases = [
        case
        for dataset in results.datasets
        for case in _cases(table, dataset, chosen.get(dataset, {}), kinds)
    ]
    counts = [
        (kinds[kind], sum(len(ids) for (_, its_kind), ids in pools.items() if its_kind == kind))
        for kind in sorted(kinds, key=order.index)
    ]
    return Gallery(sorted(cases, key=lambda case: order.index(case.kind.name)), counts)


def _kinds_of(table: pa.Table) -> dict[str, Kind]:
    """Sample id -> its kind, for the samples that every role answered."""
    groups = table.group_by(["model", "paradigm", "sample_id"])
    right: dict[str, dict[Role, bool]] = defaultdict(dict)
    roles = {cell: role for role, cell in ROLES.items()}
    for row in groups.aggregate([("correct", "all")]).to_pylist():
        role = roles.get((row["model"], row["paradigm"]))
        if role is not None and row["correct_all"] is not None:
            right[row["sample_id"]][role] = row["correct_all"]
    present = {role for answered in right.values() for role in answered}
    if {"before", "after", "teacher"} <= present:
        kinds = _KINDS
    elif {"before", "after"} <= present:
        kinds = _KINDS_WITHOUT_TEACHER
    elif {"before", "teacher"} <= present:
        kinds = _KINDS_WITHOUT_STUDENT
    else:
        return {}
    return {
        sample_id: next(
            kind
            for kind in kinds
            if all(answered[role] == wanted for role, wanted in kind.right.items())
        )
        for sample_id, answered in right.items()
        if answered.keys() >= present
    }


def _balanced(
    pools: Mapping[tuple[str, str], list[str]], limit: int, seed: int
) -> dict[str, dict[str, str]]:
    """Dataset -> sample id -> kind: one of each pool in turn, until there are enough."""
    shuffled = []
    for (dataset, kind), ids in sorted(pools.items()):
        ids = sorted(ids)
        random.Random(f"{seed}:{dataset}:{kind}").shuffle(ids)
        shuffled.append((dataset, kind, ids))
    chosen: dict[str, dict[str, str]] = defaultdict(dict)
    turns = max(len(ids) for _, _, ids in shuffled)
    in_turn = (
        (dataset, kind, ids[turn])
        for turn in range(turns)
        for dataset, kind, ids in shuffled
        if turn < len(ids)
    )
    for (dataset, kind, sample_id), _ in zip(in_turn, range(limit), strict=False):
        chosen[dataset][sample_id] = kind
    return chosen


def _cases(
    table: pa.Table, dataset: str, chosen: Mapping[str, str], kinds: Mapping[str, Kind]
) -> list[Case]:
    mask = pc.and_(
        pc.equal(table["dataset"], dataset),
        pc.is_in(table["sample_id"], pa.array(chosen, pa.string())),
    )
    answered: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {
        sample_id: defaultdict(list) for sample_id in chosen
    }
    for row in table.filter(mask).sort_by("level").to_pylist():
        answered[row["sample_id"]][row["model"], row["paradigm"]].append(row)
    return [
        Case(
            dataset,
            sample_id,
            kinds[chosen[sample_id]],
            [name_of(row["truth"]) if row["truth"] else "" for row in next(iter(cells.values()))],
            [
                CasePath(model, paradigm, [_step(row) for row in rows])
                for (model, paradigm), rows in sorted(cells.items(), key=_reading_order)
            ],
        )
        for sample_id, cells in answered.items()
    ]


def _reading_order(item: tuple[tuple[str, str], Any]) -> tuple[int, str, int]:
    """Base first, then the student, then others by name; paradigms as everywhere."""
    (model, paradigm), _ = item
    known = (BASE, STUDENT)
    return (
        known.index(model) if model in known else len(known),
        model,
        PARADIGMS.index(paradigm) if paradigm in PARADIGMS else len(PARADIGMS),
    )


def _step(row: Mapping[str, Any]) -> CaseLevel:
    name = name_of(row["prediction"]) if row["prediction"] else ""
    if row["prediction"] is None:
        return CaseLevel(row["rank"], name, "unparsed")
    if row["correct"] is None:
        return CaseLevel(row["rank"], name, "unlabelled")
    return CaseLevel(row["rank"], name, "right" if row["correct"] else "wrong")
