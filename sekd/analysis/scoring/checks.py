"""Check that every truth of a grid is a path of the taxonomy, from its first level to a leaf."""

from __future__ import annotations

import difflib

import numpy as np

from sekd.analysis.paths import UNKNOWN, NodeTable, Numbers
from sekd.analysis.scoring.faults import Faults
from sekd.analysis.scoring.grids import EMPTY, TextGrid
from sekd.data.taxonomy import Taxonomy


class TruthChecks:
    """Finds the truths without which a score means nothing, and adds them to the faults.

    Args:
        truth: int32[N, L], the nodes of the grid's truths.
    """

    def __init__(
        self,
        faults: Faults,
        grid: TextGrid,
        truth: Numbers,
        nodes: NodeTable,
        taxonomy: Taxonomy,
    ) -> None:
        self._faults = faults
        self._grid = grid
        self._truth = truth
        self._nodes = nodes
        self._taxonomy = taxonomy
        num_columns = grid.truth.shape[1]
        self._has_truth = grid.truth != EMPTY
        num_truths = self._has_truth.sum(axis=1)
        last_column = num_columns - 1 - np.argmax(self._has_truth[:, ::-1], axis=1)
        self._last_column = np.where(num_truths > 0, last_column, 0)
        # A sample is whole if no level lacks a truth up to the last one that has one.
        self._is_whole = (num_truths > 0) & (num_truths == self._last_column + 1)

    def run(self) -> None:
        """Add the faults of all kinds."""
        self._find_unknown_truths()
        self._find_gaps()
        self._find_broken_edges()
        self._find_ends_above_a_leaf()

    def _find_unknown_truths(self) -> None:
        self._faults.add(
            f"truths not in {self._taxonomy.source} at their level",
            self._grid.row,
            self._has_truth & (self._truth == UNKNOWN),
            self._describe_unknown,
        )

    def _describe_unknown(self, sample: int, column: int) -> str:
        text = self._grid.texts[self._grid.truth[sample, column]]
        level = column + self._grid.first_level
        names = [node.name for node in self._nodes.nodes if node.depth == level]
        name_of = {name.casefold(): name for name in names}
        near = difflib.get_close_matches(text.casefold(), name_of, n=1)
        hint = f"; did you mean {name_of[near[0]]!r}?" if near else self._grid.hint
        return self._describe_truth(sample, column) + hint

    def _find_gaps(self) -> None:
        """Find the first level that a sample lacks, though it has a later one or none at all."""
        samples = np.arange(len(self._truth))
        first_missing = np.argmin(self._has_truth, axis=1)
        is_gap = np.zeros_like(self._has_truth)
        is_gap[samples, first_missing] = ~self._is_whole
        # The missing level has no row of its own: the sample's last row is named instead.
        rows = np.repeat(self._grid.last_row[:, None], is_gap.shape[1], axis=1)
        self._faults.add(
            "samples that lack a level",
            rows,
            is_gap,
            lambda sample, column: (
                f"{self._describe_sample(sample)} has no truth at level "
                f"{column + self._grid.first_level}"
            ),
        )

    def _find_broken_edges(self) -> None:
        """Find truths whose parent is not the truth one level up."""
        above, below = self._truth[:, :-1], self._truth[:, 1:]
        is_broken = np.zeros_like(self._has_truth)
        is_broken[:, 1:] = (above >= 0) & (below >= 0) & (self._nodes.parents[below] != above)
        self._faults.add(
            "truths not below the one a level up",
            self._grid.row,
            is_broken,
            lambda sample, column: (
                f"{self._describe_truth(sample, column)} is not below "
                f"{self._describe_truth(sample, column - 1)}"
            ),
        )

    def _find_ends_above_a_leaf(self) -> None:
        samples = np.arange(len(self._truth))
        last_node = self._truth[samples, self._last_column]
        ends_early = np.zeros_like(self._has_truth)
        ends_early[samples, self._last_column] = (
            self._is_whole & (last_node >= 0) & ~self._nodes.is_leaf[last_node]
        )
        self._faults.add(
            "samples that end above a leaf",
            self._grid.row,
            ends_early,
            lambda sample, column: (
                f"{self._describe_sample(sample)} ends with {self._describe_truth(sample, column)}"
            ),
        )

    def _describe_truth(self, sample: int, column: int) -> str:
        return self._grid.describe(self._grid.truth, sample, column)

    def _describe_sample(self, sample: int) -> str:
        return f"sample {self._grid.sample_ids[sample].as_py()!r}"
