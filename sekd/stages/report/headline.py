"""What was gained, kept, lost and paid, in four figures and one sentence each.

A difference counts as one only where its paired 95 % interval leaves zero out; without a paired
comparison, only where the two cells' own intervals do not touch. Everything else is said to be
within noise, gains and losses alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sekd.stages.evaluate.metrics import Estimate
from sekd.stages.report.formats import interval, number
from sekd.stages.report.results import PARADIGMS, Cell, Results
from sekd.stages.report.tables import computed_tokens

_NO_BREAK = "\N{NO-BREAK SPACE}"
BASE, STUDENT = "base", "student"
Verdict = Literal["gain", "loss", "noise"]

ASKED = {
    "joint": "asked for the whole path at once",
    "independent": "asked one level at a time",
    "conditioned": "asked step by step",
}


@dataclass(frozen=True)
class Change:
    """How a metric of one cell differs from that of another, in percentage points."""

    before: Cell
    after: Cell
    points: float
    interval: Estimate | None
    """Of the paired difference; ``None`` where the cells were not compared sample by sample."""

    @classmethod
    def of(cls, results: Results, before: Cell, after: Cell) -> Change | None:
        """In HCA; ``None`` if one of them has none."""
        old, new = before.rate("hca"), after.rate("hca")
        if old is None or new is None:
            return None
        comparison = results.compare(after.key, before.key)
        paired = comparison.differences.get("hca") if comparison else None
        return cls(before, after, paired.value if paired else new.value - old.value, paired)

    @property
    def verdict(self) -> Verdict:
        """Whether it is more than noise, and which way."""
        if self.interval is not None:
            is_gain, is_loss = self.interval.low > 0, self.interval.high < 0
        else:
            old, new = self.before.rate("hca"), self.after.rate("hca")
            assert old is not None
            assert new is not None
            is_gain, is_loss = new.low > old.high, new.high < old.low
        return "gain" if is_gain else "loss" if is_loss else "noise"

    @property
    def proof(self) -> str:
        """Why that is the verdict, for a small line below the figure."""
        if self.interval is not None:
            return f"95 %: {_signed_interval(self.interval)}"
        return {"noise": "intervals overlap"}.get(self.verdict, "intervals do not touch")


@dataclass(frozen=True)
class Figure:
    """One figure of the first screen.

    Attributes:
        title: one word.
        value, unit: the figure itself.
        says: what it means, a sentence.
        proof: its interval.
        also: the same on other datasets or cells, a line each.
        caution: what must be known to read it right.
        tone: gain, loss or noise, for its colour.
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
    """The first screen."""

    sentence: str
    what: str
    """What was compared, for who has not read the paper."""
    figures: Sequence[Figure]


_TAUGHT = (
    "One vision-language model was its own teacher: frozen, it walked a taxonomy step by step, and "
    "a LoRA student of the same weights learned from its answers, without a human label, to give "
    "the whole path in one call."
)
_ALONE = (
    "A vision-language model was asked for the path of each image through a taxonomy, all levels "
    "at once and one after the other."
)


def headline(results: Results) -> Headline:
    """Figures for what the run has: without a student, what there is to gain."""
    gains = [gain for name in results.datasets if (gain := _gain(results, name))]
    if not gains:
        return _without_student(results)
    figures = [_gained(gains), _kept(results, gains), _lost(results, gains[0]), _cost(results)]
    return Headline(_sentence(results, gains[0]), _TAUGHT, [each for each in figures if each])


def _gain(results: Results, dataset: str) -> Change | None:
    before = results.get(dataset, BASE, "joint")
    after = results.get(dataset, STUDENT, "joint")
    return Change.of(results, before, after) if before and after else None


def _gained(gains: Sequence[Change]) -> Figure:
    first, *others = gains
    unparsed = first.before.rate("parse_failure_rate")
    caution = ""
    if unparsed and unparsed.value >= 10:
        caution = (
            f"{number(unparsed.value, 0)} % of the base's replies could not be read: "
            "part of this is learning the format."
        )
    return Figure(
        title="Gained",
        value=number(first.points, signed=True),
        unit="points",
        says=f"whole paths right in one call on {first.after.key.dataset}: {_from_to(first)}",
        proof=first.proof,
        also=[
            f"{each.after.key.dataset}: {_from_to(each)} ({each.proof})" for each in others
        ],
        caution=caution,
        tone=first.verdict,
    )  # fmt: skip


def _kept(results: Results, gains: Sequence[Change]) -> Figure | None:
    shares = []
    for gain in gains:
        teacher = results.get(gain.after.key.dataset, BASE, "conditioned")
        change = Change.of(results, teacher, gain.after) if teacher else None
        rate = teacher.rate("hca") if teacher else None
        student = gain.after.rate("hca")
        if change and rate and student and rate.value > 0:
            shares.append((change, student, rate))
    if not shares:
        return None
    (change, student, rate), *others = shares
    return Figure(
        title="Kept",
        value=number(100 * student.value / rate.value, 0),
        unit="% of the teacher",
        says=f"student, one call: {_with_interval(student)}; "
        f"its teacher, step by step: {_with_interval(rate)}",
        proof=f"{number(change.points, signed=True)} points; {change.proof}",
        also=[
            f"{each.after.key.dataset}: {number(100 * new.value / old.value, 0)} % "
            f"({number(new.value)} of {number(old.value)})"
            for each, new, old in others
        ],
    )


def losses(results: Results, headline_gain: Change) -> list[Change]:
    """Student against base in every other cell, the largest drop first."""
    changes = [
        change
        for dataset in results.datasets
        for paradigm in PARADIGMS
        if (before := results.get(dataset, BASE, paradigm))
        and (after := results.get(dataset, STUDENT, paradigm))
        and after.key != headline_gain.after.key
        and (change := Change.of(results, before, after))
    ]
    return sorted(changes, key=lambda change: change.points)


def _lost(results: Results, headline_gain: Change) -> Figure | None:
    changes = losses(results, headline_gain)
    if not changes:
        return None
    clear = [change for change in changes if change.verdict == "loss"]
    if clear:
        first, *others = clear
        return Figure(
            title="Lost",
            value=number(first.points, signed=True),
            unit="points",
            says=f"{ASKED[first.after.key.paradigm]} on {first.after.key.dataset}: "
            f"{_from_to(first)}",
            proof=first.proof,
            also=[
                f"{each.after.key.dataset}, {each.after.key.paradigm}: {_from_to(each)}"
                for each in others
            ],
            tone="loss",
        )
    worst = changes[0]
    if worst.points < 0:
        says = (
            f"no drop beyond noise in {_count(len(changes), 'other cell')}; the largest is "
            f"{worst.after.key.paradigm} on {worst.after.key.dataset}, {_from_to(worst)}"
        )
        return Figure(
            "Lost", number(worst.points, signed=True), "points, within noise", says, worst.proof
        )
    says = f"no drop in {_count(len(changes), 'other cell')} of the student against the base"
    return Figure("Lost", "0", "cells", says)


def _cost(results: Results) -> Figure | None:
    """Of the student's joint call, beside that of the teacher's walk."""
    for dataset in results.datasets:
        student = results.get(dataset, STUDENT, "joint")
        teacher = results.get(dataset, BASE, "conditioned")
        if student is None:
            continue
        mean_levels = results.mean_levels.get(dataset)
        calls = (teacher.cost("calls") if teacher else None) or (mean_levels if teacher else None)
        says = "one call for a whole path"
        if calls:
            says += f"; its teacher takes {_plain(calls)}"
        proof = ""
        tokens = computed_tokens(student)
        walked = computed_tokens(teacher) if teacher else None
        if tokens and walked:
            proof = (
                f"{_plain(tokens)} tokens an image; the teacher {_plain(walked)}, "
                f"{number(walked / tokens)} times one joint pass"
            )
        return Figure("Cost", "1", "call", says, proof, also=_taught(results))
    return None


def _taught(results: Results) -> list[str]:
    """What it took, once, to make the student."""
    walked = [each for each in results.made if each.stage == "answers" and each.num_done]
    if not walked:
        return []
    return [f"to teach it: {walked[-1].num_done:,} images walked once, no label used"]


def _sentence(results: Results, gain: Change) -> str:
    dataset = gain.after.key.dataset
    words = {
        "gain": f"gets the whole path right far more often: {_from_to(gain)} of the images"
        if gain.points >= 10
        else f"gets the whole path right more often: {_from_to(gain)} of the images",
        "loss": f"gets the whole path right less often than before: {_from_to(gain)}",
        "noise": f"is not measurably better than before: {_from_to(gain)}, {gain.proof}",
    }[gain.verdict]
    sentence = f"Asked for everything at once on {dataset}, the student {words}."
    clear = [change for change in losses(results, gain) if change.verdict == "loss"]
    if clear:
        worst = clear[0].after.key
        place = f" on {worst.dataset}" if len(results.datasets) > 1 else ""
        sentence += (
            f" It paid for that: {ASKED[worst.paradigm]}{place}, it is worse than the base"
            f" ({_from_to(clear[0])})."
        )
    return sentence


def _without_student(results: Results) -> Headline:
    figures = []
    words = []
    for paradigm, title in (("conditioned", "Step by step"), ("joint", "At once")):
        found = [
            (cell, rate)
            for cell in results.plain_cells
            if cell.key.model == BASE
            and cell.key.paradigm == paradigm
            and (rate := cell.rate("hca"))
        ]
        if found:
            (cell, rate), *others = found
            figures.append(
                Figure(
                    title=title,
                    value=number(rate.value),
                    unit="%",
                    says=f"whole paths right, {ASKED[paradigm]}, on {cell.key.dataset}",
                    proof=f"95 %: {interval(rate)}",
                    also=[f"{c.key.dataset}: {_with_interval(r)}" for c, r in others],
                )
            )
            words.append(f"{ASKED[paradigm]}, it gets {number(rate.value)} %")
    sentence = "There is no student in this run: the base alone was measured."
    if words:
        found_in = next(iter(results.datasets))
        sentence += f" On {found_in}, {'; '.join(words)} of the paths right."
    return Headline(sentence, _ALONE, figures)


def _from_to(change: Change) -> str:
    old, new = change.before.rate("hca"), change.after.rate("hca")
    assert old is not None
    assert new is not None
    return f"{number(old.value)} \N{RIGHTWARDS ARROW} {number(new.value)} %".replace(" ", _NO_BREAK)


def _with_interval(rate: Estimate) -> str:
    return f"{number(rate.value)}{_NO_BREAK}% ({interval(rate)})"


def _signed_interval(estimate: Estimate) -> str:
    return f"{number(estimate.low, signed=True)} to {number(estimate.high, signed=True)}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else number(value)
