"""The first screen: what was gained, kept, lost and paid, in one sentence and a few figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sekd.analysis.metrics import Estimate
from sekd.analysis.results import CellKey, Evaluation
from sekd.config import BASE
from sekd.report.changes import (
    NO_BREAK,
    Change,
    Verdict,
    clear_losses,
    gains,
    other_changes,
    unbroken,
)
from sekd.report.formats import interval_text, number

_TAUGHT = (
    "One vision-language model was its own teacher: frozen, it walked a taxonomy step by step, and "
    "a LoRA student of the same weights learned from its answers, without a human label, to give "
    "the whole path in one call."
)
_ALONE = (
    "A vision-language model was asked for the path of each image through a taxonomy, all levels "
    "at once and one after the other."
)
_ASKED = {
    "joint": "asked for the whole path at once",
    "independent": "asked one level at a time",
    "conditioned": "asked step by step",
}
_MAX_LINES = 3
_FAR_MORE = 10  # points
_MANY_UNPARSED = 10  # percent


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of the first screen.

    Attributes:
        title: one word.
        value: the figure itself.
        unit: of it.
        says: what it means.
        proof: its interval.
        also: the same of other datasets or cells, a line each.
        caution: what must be known to read it right.
        tone: for its colour.
    """

    title: str
    value: str
    unit: str
    says: str
    proof: str = ""
    also: Sequence[str] = ()
    caution: str = ""
    tone: Verdict = "noise"


@dataclass(frozen=True)
class Headline:
    """The first screen; ``what`` says what was compared to who has not read the paper."""

    sentence: str
    what: str
    figures: Sequence[Figure]


def headline(results: Evaluation) -> Headline:
    """Figures for what the run has: without a student, what there is to gain."""
    found = gains(results)
    if not found:
        return _without_student(results)
    figures = [
        _gained(results, found),
        _kept(results, found),
        _lost(results, found[0]),
        _cost(results, found[0]),
    ]
    return Headline(_sentence(results, found[0]), _TAUGHT, [each for each in figures if each])


def _sentence(results: Evaluation, gain: Change) -> str:
    if gain.verdict == "gain":
        far = "far " if gain.points >= _FAR_MORE else ""
        outcome = f"gets the whole path right {far}more often: {gain} of the images"
    elif gain.verdict == "loss":
        outcome = f"gets the whole path right less often than the base: {gain} of the images"
    else:
        outcome = f"is not measurably better than the base: {gain}, {gain.proof}"
    sentence = f"Asked for everything at once on {gain.after.dataset}, the student {outcome}."
    for worst in clear_losses(results, gain)[:1]:
        place = f" on {worst.after.dataset}" if len(results.datasets) > 1 else ""
        beginning = "It paid for that: " if gain.verdict == "gain" else "Besides, "
        sentence += (
            f" {beginning}{_ASKED[worst.after.paradigm]}{place}, it is worse than the base"
            f" ({worst})."
        )
    return sentence


def _gained(results: Evaluation, found: Sequence[Change]) -> Figure:
    first, *others = found
    base = results.cells[first.before].rate("parse_failure_rate")
    caution = ""
    if base and base.value >= _MANY_UNPARSED:
        caution = (
            f"{number(base.value, 0)}{NO_BREAK}% of the base's replies could not be read: "
            "part of this is learning the format."
        )
    return Figure(
        title="Gained",
        value=number(first.points, signed=True),
        unit="points",
        says=f"whole paths right in one call on {first.after.dataset}: {first}",
        proof=first.proof,
        also=[
            *_few(f"{results.title(each.after.dataset)}: {each} ({each.proof})" for each in others),
            *_without_image(results, first.after),
        ],
        caution=caution,
        tone=first.verdict,
    )


def _without_image(results: Evaluation, key: CellKey) -> Iterator[str]:
    """What the same figure is where nothing is looked at."""
    blind = results.cells.get(key._replace(control="blind"))
    rate = blind.rate("hca") if blind else None
    if rate:
        yield f"the student without the image: {_with_interval(rate)}"
    floor = results.options_alone(key.dataset)
    if floor:
        yield f"from the options alone, knowing the taxonomy: {number(floor.value)}{NO_BREAK}%"


def _kept(results: Evaluation, found: Sequence[Change]) -> Figure | None:
    teachers = [CellKey(gain.after.dataset, BASE, "conditioned") for gain in found]
    beside = [
        change
        for gain, teacher in zip(found, teachers, strict=True)
        if (change := Change.between(results, teacher, gain.after)) and change.old.value
    ]
    if not beside:
        return None
    first, *others = beside
    return Figure(
        title="Kept",
        value=_share(first),
        unit="% of the teacher",
        says=f"student, one call: {_with_interval(first.new)}; "
        f"its teacher, step by step: {_with_interval(first.old)}",
        proof=f"{number(first.points, signed=True)}{NO_BREAK}points; {first.proof}",
        also=_few(
            f"{results.title(each.after.dataset)}: {_share(each)}{NO_BREAK}% "
            f"({number(each.new.value)} of {number(each.old.value)})"
            for each in others
        ),
    )


def _share(change: Change) -> str:
    return number(100 * change.new.value / change.old.value, 0)


def _lost(results: Evaluation, gain: Change) -> Figure | None:
    changes = other_changes(results, gain)
    if not changes:
        return None
    losses = clear_losses(results, gain)
    if losses:
        first, *others = losses
        return Figure(
            title="Lost",
            value=number(first.points, signed=True),
            unit="points",
            says=f"{_ASKED[first.after.paradigm]} on {results.title(first.after.dataset)}: {first}",
            proof=first.proof,
            also=_few(f"{each.after.dataset}, {each.after.paradigm}: {each}" for each in others),
            tone="loss",
        )
    worst = changes[0]
    cells = "1 other cell" if len(changes) == 1 else f"{len(changes)} other cells"
    if worst.points < 0:
        return Figure(
            title="Lost",
            value=number(worst.points, signed=True),
            unit="points, within noise",
            says=f"no clear drop in {cells}; the largest is {worst.after.paradigm} on "
            f"{worst.after.dataset}: {worst}",
            proof=worst.proof,
        )
    says = f"no drop in {cells} of the student against the base"
    return Figure(title="Lost", value="0", unit="points", says=says)


def _cost(results: Evaluation, gain: Change) -> Figure:
    """Of the student's one call, beside its teacher's walk."""
    student = results.cells[gain.after]
    teacher = results.get(gain.after.dataset, BASE, "conditioned")
    says, proof = "one call for a whole path", ""
    if teacher:
        calls = teacher.cost("calls") or results.mean_levels.get(gain.after.dataset)
        if calls:
            says += f"; its teacher takes{NO_BREAK}{_plain(calls)}"
        once, walked = student.computed_tokens, teacher.computed_tokens
        if once and walked:
            proof = (
                f"{_plain(once)} tokens an image; the teacher computes {_plain(walked)}, "
                f"{number(walked / once)}{NO_BREAK}times as many"
            )
    return Figure(
        title="Cost", value="1", unit="call", says=says, proof=proof, also=list(_taught(results))
    )


def _taught(results: Evaluation) -> Iterator[str]:
    """What it took, once, to make the student."""
    for each in results.made:
        if each.stage == "answers" and each.num_done:
            yield f"to teach it: {each.num_done:,} images walked once, no label used"
            return


def _without_student(results: Evaluation) -> Headline:
    figures, words = [], []
    for paradigm, title in (("conditioned", "Step by step"), ("joint", "At once")):
        found = [
            (dataset, rate)
            for dataset in results.datasets
            if (cell := results.get(dataset, BASE, paradigm)) and (rate := cell.rate("hca"))
        ]
        if found:
            (dataset, rate), *others = found
            words.append(f"{number(rate.value)}{NO_BREAK}% of the paths right {_ASKED[paradigm]}")
            figures.append(
                Figure(
                    title=title,
                    value=number(rate.value),
                    unit="%",
                    says=f"whole paths right on {dataset}, {_ASKED[paradigm]}",
                    proof=f"95{NO_BREAK}%: {unbroken(interval_text(rate))}",
                    also=_few(f"{name}: {_with_interval(other)}" for name, other in others),
                )
            )
    sentence = "There is no student in this run: the base alone was measured."
    if words:
        sentence += f" On {results.datasets[0]} it gets {', '.join(words)}."
    return Headline(sentence, _ALONE, figures)


def _few(lines: Iterable[str]) -> list[str]:
    """What a first screen has room for."""
    given = list(lines)
    more = len(given) - _MAX_LINES
    return [*given[:_MAX_LINES], *([f"and {more} more, in the table below"] if more > 0 else [])]


def _with_interval(rate: Estimate) -> str:
    return f"{number(rate.value)}{NO_BREAK}% ({unbroken(interval_text(rate))})"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else number(value)
