"""The score of a file of predictions, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sekd.analysis.breakdown import score_nodes, score_subtrees
from sekd.analysis.diagnosis import compare_paths, only_in
from sekd.analysis.metrics import Outcomes, score
from sekd.analysis.paths import Paths
from sekd.analysis.scoring.resolve import ScoredCell
from sekd.errors import ConfigError

_NUM_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a file is scored.

    Attributes:
        subtree_level: whose nodes' subtrees are scored by themselves; None for the first one
            below the root.
        alpha: of ``dwpa``.
        num_bootstrap: draws behind each interval.
        seed: of the draws.
    """

    subtree_level: int | None = None
    alpha: float = 0.95
    num_bootstrap: int = 1000
    seed: int = 0

    def card(self, cell: ScoredCell) -> dict[str, Any]:
        """The names of a cell and all that is measured of it, ready for JSON.

        Raises:
            ConfigError: if no sample has the subtrees' level.
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
        """Paired differences from ``other``, which must have the same samples.

        Raises:
            ConfigError: if it has not, naming some.
        """
        for there, missing in (
            ("PREDICTIONS", only_in(paths, other)),
            ("OTHER", only_in(other, paths)),
        ):
            if missing:
                named = ", ".join(map(repr, missing[:_NUM_NAMED]))
                raise ConfigError(
                    f"--compare: {len(missing):,} samples are in {there} alone, e.g. {named}; "
                    "differences are taken over the same samples"
                )
        try:
            return compare_paths(
                paths, other, alpha=self.alpha, num_bootstrap=self.num_bootstrap, seed=self.seed
            )
        except ValueError as error:
            raise ConfigError(f"--compare: {error}") from error


def counterpart(
    cell: ScoredCell, cells: Sequence[ScoredCell], others: Sequence[ScoredCell]
) -> ScoredCell:
    """The cell of another file to compare with: of the same names, or the only one with the only.

    Raises:
        ConfigError: if there is none.
    """
    if len(cells) == len(others) == 1:
        return others[0]
    for other in others:
        if other.names == cell.names:
            return other
    there = "; ".join(map(str, others))
    raise ConfigError(
        f"--compare: OTHER has no {cell}, but {there}; choose one of each file with --only, or "
        "name them alike"
    )
