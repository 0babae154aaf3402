"""How cells differ in HCA, and whether that is more than noise.

A difference counts as one only where its paired 95 % interval leaves zero out; without a paired
comparison, only where the two cells' own intervals do not touch. Everything else is within noise,
gains and losses alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sekd.analysis.metrics import Estimate
from sekd.analysis.results import PARADIGMS, CellKey, Evaluation
from sekd.config import BASE, STUDENT
from sekd.report.formats import EN_DASH, interval_text, number

NO_BREAK, _JOINER = "\N{NO-BREAK SPACE}", "\N{WORD JOINER}"
Verdict = Literal["gain", "loss", "noise"]


@dataclass(frozen=True)
class Change:
    """From one cell's HCA to another's."""

    before: CellKey
    after: CellKey
    old: Estimate
    new: Estimate
    paired: Estimate | None
    """New minus old in percentage points over the same images; ``None`` if not compared so."""

    @classmethod
    def between(cls, results: Evaluation, before: CellKey, after: CellKey) -> Change | None:
        """``None`` if one of the cells was not measured."""
        cells = results.cells.get(before), results.cells.get(after)
        old, new = (cell.rate("hca") if cell else None for cell in cells)
        if old is None or new is None:
            return None
        comparison = results.compare(after, before)
        paired = comparison.differences.get("hca") if comparison else None
        return cls(before, after, old, new, paired)

    @property
    def points(self) -> float:
        """Percentage points, negative where it fell."""
        return self.paired.value if self.paired else self.new.value - self.old.value

    @property
    def verdict(self) -> Verdict:
        """Whether it is more than noise, and which way."""
        if self.paired:
            is_gain, is_loss = self.paired.low > 0, self.paired.high < 0
        else:
            is_gain, is_loss = self.new.low > self.old.high, self.new.high < self.old.low
        return "gain" if is_gain else "loss" if is_loss else "noise"

    @property
    def proof(self) -> str:
        """Why that is the verdict, in a few words."""
        if self.paired:
            return f"95{NO_BREAK}%: {unbroken(interval_text(self.paired, signed=True))}"
        return "intervals overlap" if self.verdict == "noise" else "intervals do not touch"

    def __str__(self) -> str:
        arrow = "\N{RIGHTWARDS ARROW}"
        return unbroken(f"{number(self.old.value)} {arrow} {number(self.new.value)} %")


def gains(results: Evaluation) -> list[Change]:
    """Student against base when asked at once, by dataset: what the method is for."""
    return [
        change
        for dataset in results.datasets
        if (change := _of_student(results, dataset, "joint"))
    ]  # fmt: skip


def other_changes(results: Evaluation, gain: Change) -> list[Change]:
    """Student against base in every other cell, the largest drop first."""
    changes = [
        change
        for dataset in results.datasets
        for paradigm in PARADIGMS
        if (change := _of_student(results, dataset, paradigm)) and change.after != gain.after
    ]
    return sorted(changes, key=lambda change: change.points)


def clear_losses(results: Evaluation, gain: Change) -> list[Change]:
    """Those of the other cells that fell by more than noise, the largest drop first."""
    return [change for change in other_changes(results, gain) if change.verdict == "loss"]


def unbroken(text: str) -> str:
    """The same without a place to end a line at."""
    return text.replace(" ", NO_BREAK).replace(EN_DASH, f"{_JOINER}{EN_DASH}{_JOINER}")


def _of_student(results: Evaluation, dataset: str, paradigm: str) -> Change | None:
    return Change.between(
        results, CellKey(dataset, BASE, paradigm), CellKey(dataset, STUDENT, paradigm)
    )
