"""The first screen: what was gained, kept, lost and paid, in one sentence and a few figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sekd.analysis.cell_key import CellKey
from sekd.analysis.estimates import Estimate
from sekd.analysis.results import Evaluation
from sekd.analysis.roles import QUIZ_AT_ONCE, teacher_key
from sekd.config import BASE, STUDENT, WITHOUT_QUIZ
from sekd.report.changes import (
    NO_BREAK,
    WAYS_OF_ASKING,
    Change,
    clear_losses,
    learned_changes,
    other_changes,
    unbroken,
)
from sekd.report.cost_figure import cost_figure
from sekd.report.formats import format_interval, format_number
from sekd.report.key_figure import KeyFigure

_EXPERIMENT = (
    "One vision-language model was its own teacher. Frozen, it walked a taxonomy step by step; a "
    "LoRA student of the same weights learned from its answers{}."
)
_LEARNED = {
    "joint": " to give the whole path in one call",
    "joint_forced": " to give the whole path in one call",
    "open": " to name the whole path without options",
}
"""Paradigm of the first figure -> what a student that was measured by it has learned."""
_EXPERIMENT_WITHOUT_STUDENT = (
    "A vision-language model was asked for the path of each image through a taxonomy, all levels "
    "at once and one after the other."
)
_SHORT_WAYS = {"joint": "in one call", "joint_forced": "in one prompt"}
_TITLES = {
    "conditioned": "Step by step",
    "joint": "At once",
    "open": "Named",
    "descent": "Descending",
}
"""Paradigm -> title of its figure where there is no student."""
_MAX_LINES = 3
_FAR_MORE_POINTS = 10
_MANY_UNPARSED_PERCENT = 10


@dataclass(frozen=True)
class Headline:
    """The first screen.

    Attributes:
        experiment: what was compared, for a reader who does not know the paper.
    """

    sentence: str
    experiment: str
    figures: Sequence[KeyFigure]


def make_headline(evaluation: Evaluation) -> Headline:
    """Choose the figures for what the run has; without a student, what there is to gain."""
    changes = learned_changes(evaluation)
    if not changes:
        return _headline_without_student(evaluation)
    figures = [
        _gained_figure(evaluation, changes),
        _kept_figure(evaluation, changes),
        _lost_figure(evaluation, changes[0]),
        cost_figure(evaluation, changes[0]),
    ]
    return Headline(
        _headline_sentence(evaluation, changes[0]),
        _EXPERIMENT.format(_LEARNED.get(changes[0].after.paradigm, "")),
        [figure for figure in figures if figure is not None],
    )


def _headline_sentence(evaluation: Evaluation, gain: Change) -> str:
    if gain.verdict == "gain":
        far = "far " if gain.points >= _FAR_MORE_POINTS else ""
        outcome = f"gets the whole path right {far}more often: {gain} of the images"
    elif gain.verdict == "loss":
        outcome = f"gets the whole path right less often than the base: {gain} of the images"
    else:
        outcome = f"is not measurably better than the base: {gain}, {gain.evidence}"
    asked = "asked for everything at once"
    if gain.after.paradigm not in QUIZ_AT_ONCE:
        asked = WAYS_OF_ASKING[gain.after.paradigm]
    sentence = f"{asked.capitalize()} on {gain.after.dataset}, the student {outcome}."
    losses = clear_losses(evaluation, gain)
    if losses:
        worst = losses[0].after
        on_dataset = f" on {worst.dataset}" if len(evaluation.datasets) > 1 else ""
        beginning = "It paid for that: " if gain.verdict == "gain" else "Besides, "
        if losses[0].is_against_teacher:
            asked, steps = _way_in_short(losses[0]), losses[0].old_steps
            asked = asked.capitalize() if gain.verdict == "gain" else f"Besides, {asked}"
            sentence += f" {asked}{on_dataset}, it is worse than its teacher's {steps}"
        else:
            asked = WAYS_OF_ASKING[worst.paradigm]
            sentence += f" {beginning}{asked}{on_dataset}, it is worse than the base"
        sentence += f" ({losses[0]})."
    return sentence


def _gained_figure(evaluation: Evaluation, changes: Sequence[Change]) -> KeyFigure:
    first, *others = changes
    cautions = [*_cautions(evaluation, first), *_cautions_of_student(evaluation, changes)]
    asked = _way_in_short(first)
    return KeyFigure(
        title="Gained",
        value=format_number(first.points, is_signed=True),
        unit="points",
        meaning=f"whole paths right {asked} on {first.after.dataset}: {first}",
        evidence=first.evidence,
        details=[
            *_first_lines(
                f"{evaluation.title(change.after.dataset)}: {change} ({change.evidence})"
                for change in others
            ),
            *_lines_of_free_replies(evaluation, first),
            *_lines_without_image(evaluation, first.after),
        ],
        caution=" ".join(cautions),
        verdict=first.verdict,
    )


def _cautions(evaluation: Evaluation, gain: Change) -> Iterator[str]:
    """Say how much of a gain is the format of the reply."""
    base = evaluation.cells[gain.before].rate("parse_failure_rate")
    if base and base.value >= _MANY_UNPARSED_PERCENT:
        yield (
            f"{_format_percent(base)} of the base's replies could not be "
            "parsed: part of this gain is learning the format."
        )
        yield "evaluate.paradigms: joint_forced would give the gain without it."


def _way_in_short(change: Change) -> str:
    """Say how the student was asked, in short."""
    paradigm = change.after.paradigm
    return _SHORT_WAYS.get(paradigm, WAYS_OF_ASKING[paradigm])


def _lines_of_free_replies(evaluation: Evaluation, gain: Change) -> Iterator[str]:
    """Give the same step where the models write the form of the reply themselves."""
    if gain.after.paradigm != "joint_forced":
        return
    before, after = (key._replace(paradigm="joint") for key in (gain.before, gain.after))
    change = Change.between(evaluation, before, after)
    if change is not None:
        unread = evaluation.cells[before].rate("parse_failure_rate")
        share = f"; {_format_percent(unread)} of the base's unparsed" if unread else ""
        yield f"in a free reply: {change} ({change.evidence}{share})"


def _cautions_of_student(evaluation: Evaluation, changes: Sequence[Change]) -> Iterator[str]:
    """Say where the student's own replies fail, and where it was trained on what it is asked."""
    for change in changes:
        dataset = change.after.dataset
        where = f" on {dataset}" if len(changes) > 1 else ""
        unparsed = evaluation.cells[change.after].rate("parse_failure_rate")
        if unparsed and unparsed.value >= _MANY_UNPARSED_PERCENT:
            yield (
                f"{_format_percent(unparsed)} of the student's own replies{where} could not be "
                "parsed."
            )
        num_trained_on = evaluation.num_trained_on(dataset)
        if num_trained_on:
            yield (
                f"The student was trained on {num_trained_on:,} of the images of {dataset}: this "
                "is no test."
            )


def _lines_without_image(evaluation: Evaluation, key: CellKey) -> Iterator[str]:
    """Say what the same figure is where no image is shown."""
    blind = evaluation.cells.get(key._replace(control="blind"))
    rate = blind.rate("hca") if blind else None
    if rate:
        yield f"the student without the image: {_format_rate(rate)}"
    options_alone = evaluation.options_alone(key.dataset)
    if options_alone and key.paradigm not in WITHOUT_QUIZ:
        number = format_number(options_alone.value)
        yield f"from the options alone, knowing the taxonomy: {number}{NO_BREAK}%"


def _kept_figure(evaluation: Evaluation, changes: Sequence[Change]) -> KeyFigure | None:
    from_teacher = []
    for change in changes:
        teacher = teacher_key(evaluation.cells, change.after.dataset)
        step = Change.between(evaluation, teacher, change.after) if teacher else None
        if step is not None and step.old.value and step.is_against_teacher:
            from_teacher.append(step)
    if not from_teacher:
        return None
    first, *others = from_teacher
    return KeyFigure(
        title="Kept",
        value=_format_share(first),
        unit="% of the teacher",
        meaning=f"student, {_way_in_short(first).removeprefix('in ')}: {_format_rate(first.new)}; "
        f"its teacher, step by step: {_format_rate(first.old)}",
        evidence=f"{format_number(first.points, is_signed=True)}{NO_BREAK}points; {first.evidence}",
        details=_first_lines(
            f"{evaluation.title(step.after.dataset)}: {_format_share(step)}{NO_BREAK}% "
            f"({format_number(step.new.value)} of {format_number(step.old.value)})"
            for step in others
        ),
    )


def _lost_figure(evaluation: Evaluation, gain: Change) -> KeyFigure | None:
    changes = other_changes(evaluation, gain)
    losses = clear_losses(evaluation, gain)
    if not (changes or losses):
        return None
    if losses:
        first, *others = losses
        asked = WAYS_OF_ASKING[first.after.paradigm]
        if first.is_against_teacher:
            asked = f"{_way_in_short(first)} against its teacher's {first.old_steps}"
        return KeyFigure(
            title="Lost",
            value=format_number(first.points, is_signed=True),
            unit="points",
            meaning=f"{asked} on {evaluation.title(first.after.dataset)}: {first}",
            evidence=first.evidence,
            details=_first_lines(
                f"{change.after.dataset}, {_opponent(change)}: {change}" for change in others
            ),
            verdict="loss",
        )
    worst = changes[0]
    cells = "1 other cell" if len(changes) == 1 else f"{len(changes)} other cells"
    if worst.points < 0:
        return KeyFigure(
            title="Lost",
            value=format_number(worst.points, is_signed=True),
            unit="points, within noise",
            meaning=f"no clear drop in {cells}; the largest is {worst.after.paradigm} on "
            f"{worst.after.dataset}: {worst}",
            evidence=worst.evidence,
        )
    meaning = f"no drop in {cells} of the student against the base"
    return KeyFigure(title="Lost", value="0", unit="points", meaning=meaning)


def _opponent(change: Change) -> str:
    return "against its teacher" if change.is_against_teacher else change.after.paradigm


def _headline_without_student(evaluation: Evaluation) -> Headline:
    figures, clauses = [], []
    for paradigm, title in _TITLES.items():
        rates = {
            dataset: rate
            for dataset in evaluation.datasets
            if (rate := evaluation.rate(dataset, BASE, paradigm))
        }
        if not rates:
            continue
        (dataset, rate), *others = rates.items()
        asked = WAYS_OF_ASKING[paradigm]
        clauses.append(f"{format_number(rate.value)}{NO_BREAK}% of the paths right {asked}")
        figures.append(
            KeyFigure(
                title=title,
                value=format_number(rate.value),
                unit="%",
                meaning=f"whole paths right on {dataset}, {asked}",
                evidence=f"95{NO_BREAK}%: {unbroken(format_interval(rate))}",
                details=_first_lines(f"{name}: {_format_rate(other)}" for name, other in others),
            )
        )
    sentence = "There is no student in this run: the base alone was measured."
    if STUDENT in evaluation.models:
        sentence = "The student was asked in no way in which the base was asked, too."
    if clauses:
        sentence += f" On {evaluation.datasets[0]} it gets {', '.join(clauses)}."
    return Headline(sentence, _EXPERIMENT_WITHOUT_STUDENT, figures)


def _first_lines(lines: Iterable[str]) -> list[str]:
    """Return the lines that a first screen has room for."""
    all_lines = list(lines)
    num_more = len(all_lines) - _MAX_LINES
    if num_more <= 0:
        return all_lines
    return [*all_lines[:_MAX_LINES], f"and {num_more} more, in the table below"]


def _format_rate(rate: Estimate) -> str:
    return f"{format_number(rate.value)}{NO_BREAK}% ({unbroken(format_interval(rate))})"


def _format_percent(rate: Estimate) -> str:
    return f"{format_number(rate.value, 0)}{NO_BREAK}%"


def _format_share(change: Change) -> str:
    return format_number(100 * change.new.value / change.old.value, 0)
