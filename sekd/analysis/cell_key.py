"""The key of a cell of an evaluation: dataset, model, paradigm and control."""

from __future__ import annotations

from typing import NamedTuple, get_args

from sekd.config import SOLVER, Paradigm
from sekd.data.predictions import NO_CONTROL

PARADIGMS: tuple[str, ...] = get_args(Paradigm)
"""All paradigms, in the order in which tables and charts show them."""


class CellKey(NamedTuple):
    """One model on one dataset, under one paradigm, and under one control or none."""

    dataset: str
    model: str
    paradigm: str
    control: str = NO_CONTROL

    @property
    def is_controlled(self) -> bool:
        """The cell qualifies the cell without a control.

        The solver of the control ``taxonomy`` is a control by itself and qualifies no cell of its
        own.
        """
        return self.control != NO_CONTROL and self.model != SOLVER

    @property
    def uncontrolled(self) -> CellKey:
        """The cell that this one qualifies, or itself."""
        return self._replace(control=NO_CONTROL) if self.is_controlled else self

    def __str__(self) -> str:
        """Name a cell within its dataset: "student, joint (blind)"."""
        control = f" ({self.control})" if self.is_controlled else ""
        return f"{self.model}, {self.paradigm}{control}"


def solver_key(dataset: str) -> CellKey:
    """Return the cell of the solver that sees the options and no image."""
    return CellKey(dataset, SOLVER, "options", "taxonomy")
