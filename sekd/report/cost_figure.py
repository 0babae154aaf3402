"""The last figure of the first screen: what the student's answers cost, beside its teacher's."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sekd.analysis.cost import MeanCost
from sekd.analysis.results import Evaluation
from sekd.analysis.roles import AT_ONCE, teacher_key
from sekd.report.changes import NO_BREAK, Change
from sekd.report.formats import format_number
from sekd.report.key_figure import KeyFigure
from sekd.report.provenance import labels_used

_WAYS_AT_ONCE = {
    "joint": "by a free reply",
    "joint_forced": "by letters in a given form",
    "open": "by naming without options",
}
"""Paradigm -> how a student answers all levels at once."""


def cost_figure(evaluation: Evaluation, gain: Change) -> KeyFigure:
    """Compare the student's calls, of which joint answers need one, with its teacher's."""
    student = evaluation.cells[gain.after].cost
    walked = teacher_key(evaluation.cells, gain.after.dataset)
    teacher = evaluation.cells[walked].cost if walked else None
    num_calls = 1 if gain.after.paradigm == "joint" or student is None else student.calls
    meaning, evidence, caution = "for a whole path", "", ""
    if teacher is not None and student is not None:
        meaning += f"; its teacher takes{NO_BREAK}{_format_count(teacher.calls)}"
        in_steps, at_once = teacher.computed_tokens, student.computed_tokens
        evidence = (
            f"{_format_count(at_once)} tokens an image, {_format_count(student.decode_tokens)} of "
            f"them written one after another; the teacher computes {_format_count(in_steps)} and "
            f"writes {_format_count(teacher.decode_tokens)}. One worker took "
            f"{_format_seconds(student)}, for the teacher {_format_seconds(teacher)}"
        )
        if at_once > in_steps or student.seconds > teacher.seconds:
            caution = (
                "The student costs more than its teacher: "
                f"{_format_ratio(at_once, in_steps)} of its tokens, "
                f"{_format_ratio(student.seconds, teacher.seconds)} of its time."
            )
            caution += "".join(
                f" {way.capitalize()} it takes {_format_ratio(cost.seconds, teacher.seconds)} of "
                "the teacher's time."
                for way, cost in _other_ways(evaluation, gain)
                if cost.seconds < teacher.seconds
            )
    return KeyFigure(
        title="Cost",
        value=_format_count(num_calls),
        unit="call" if num_calls == 1 else "calls",
        meaning=meaning,
        evidence=evidence,
        details=[
            *(f"{way}: {_format_seconds(cost)}" for way, cost in _other_ways(evaluation, gain)),
            *_lines_of_teaching(evaluation),
        ],
        caution=caution,
        verdict="loss" if caution else "noise",
    )


def _other_ways(evaluation: Evaluation, gain: Change) -> Iterator[tuple[str, MeanCost]]:
    """Yield the student's other ways to answer at once, which may be cheaper, with their costs."""
    for paradigm in AT_ONCE:
        cell = evaluation.cells.get(gain.after._replace(paradigm=paradigm))
        if paradigm != gain.after.paradigm and cell is not None and cell.cost is not None:
            yield _WAYS_AT_ONCE[paradigm], cell.cost


def _format_seconds(cost: MeanCost) -> str:
    alone = "" if cost.latency is None else f" ({cost.latency:.2g}{NO_BREAK}s for one alone)"
    return f"{cost.seconds:.2g}{NO_BREAK}s an image{alone}"


def _format_ratio(part: float, whole: float) -> str:
    """Return a share in percent, rounded away from 100 %, so that no difference is hidden."""
    if not whole:
        return "any share"
    percent = 100 * part / whole
    rounded = math.ceil(percent) if percent > 100 else math.floor(percent)
    return f"{rounded}{NO_BREAK}%"


def _lines_of_teaching(evaluation: Evaluation) -> list[str]:
    """Say what it took, once, to make the student: the newest finished answers, and labels."""
    labels = labels_used(evaluation.config)
    for record in evaluation.stages:
        if record.stage == "answers" and record.num_done:
            return [f"to teach it: {record.num_done:,} images walked once; {labels}"]
    return []


def _format_count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else format_number(value)
