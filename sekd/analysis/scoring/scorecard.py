"""The score of a file of predictions, as values that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sekd.analysis.breakdown import score_nodes, score_subtrees
from sekd.analysis.diagnosis import compare_paths, only_in
from sekd.analysis.metrics import Outcomes, score
from sekd.analysis.paths import Paths
from sekd.analysis.scoring.resolve import ResolvedCell
from sekd.errors import ConfigError

_NUM_LISTED_SAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a file is scored.

    Attributes:
        subtree_level: the subtree of each node of this level is scored by itself; None for the
            first level below the root.
        alpha: weight of the last level in ``dwpa``.
        num_bootstrap: the number of draws behind each interval.
        seed: of the draws.
    """

    subtree_level: int | None = None
    alpha: float = 0.95
    num_bootstrap: int = 1000
    seed: int = 0

    def card(self, cell: ResolvedCell) -> dict[str, Any]:
        """Return the names of a cell and all that is measured of it, as JSON can hold it.

        Raises:
            ConfigError: if no sample has the level of the subtrees.
        """
        paths = cell.paths
        draws = {"num_bootstrap": self.num_bootstrap, "seed": self.seed}
        level = 1 if self.subtree_level is None else self.subtree_level
        try:
            subtrees = score_subtrees(paths, level, alpha=self.alpha, **draws)
        except ValueError as error:
            raise ConfigError(f"--subtree-level: {error}") from error
        return {
            **cell.names,
            **score(Outcomes.of(paths), alpha=self.alpha, **draws),
            "num_unknown_predictions": cell.num_unknown,
            "subtrees": subtrees,
            "nodes": score_nodes(paths, **draws),
        }

    def comparison(self, paths: Paths, other: Paths) -> dict[str, Any]:
        """Return the paired differences from ``other``, which must have the same samples.

        Raises:
            ConfigError: if the samples differ, naming some that only one of them has.
        """
        for argument, missing in (
            ("PREDICTIONS", only_in(paths, other)),
            ("OTHER", only_in(other, paths)),
        ):
            if missing:
                examples = ", ".join(map(repr, missing[:_NUM_LISTED_SAMPLES]))
                raise ConfigError(
                    f"--compare: {len(missing):,} samples are in {argument} alone, e.g. "
                    f"{examples}; differences are taken over the same samples"
                )
        try:
            return compare_paths(
                paths, other, alpha=self.alpha, num_bootstrap=self.num_bootstrap, seed=self.seed
            )
        except ValueError as error:
            raise ConfigError(f"--compare: {error}") from error


def counterpart(
    cell: ResolvedCell, cells: Sequence[ResolvedCell], others: Sequence[ResolvedCell]
) -> ResolvedCell:
    """Return the cell of another file to compare a cell with.

    It is the one of the same names or, where both files have a single cell, that single one.

    Raises:
        ConfigError: if there is no such cell.
    """
    if len(cells) == len(others) == 1:
        return others[0]
    for other in others:
        if other.names == cell.names:
            return other
    raise ConfigError(
        f"--compare: OTHER has no {cell}, but {'; '.join(map(str, others))}; choose one of each "
        "file with --only, or name them alike"
    )
