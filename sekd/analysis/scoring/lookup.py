"""Find the nodes of a taxonomy that the texts of a grid stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sekd.analysis.paths import NOT_PARSED, UNKNOWN, IntArray, NodeTable, Numbers
from sekd.analysis.scoring.grids import TextGrid
from sekd.analysis.scoring.matches import NameMatches

_AMBIGUOUS = -3
"""Stands instead of a node's number until the answer above it is known."""


class NodeLookup:
    """Finds nodes by text. Each distinct text is looked up once per level.

    A node id is found at its own level. A name is found at its level by the steps of ``matches``.
    """

    def __init__(self, matches: NameMatches, nodes: NodeTable, grid: TextGrid) -> None:
        self._matches = matches
        self._nodes = nodes
        self._texts = grid.texts
        self._first_level = grid.first_level

    def find(self, text_numbers: IntArray, truth: Numbers | None = None) -> Numbers:
        """Find the node of every text.

        Args:
            text_numbers: int64[N, L], ``truth`` or ``prediction`` of the grid.
            truth: int32[N, L], the right nodes. One of them is what an ambiguous name stands for if
                no node of that name is below the answer one level up.

        Returns:
            int32[N, L]: node numbers, NOT_PARSED where there is no text, and UNKNOWN where the
            taxonomy has no such node at the level.
        """
        nodes = np.full(text_numbers.shape, NOT_PARSED, dtype=np.int32)
        if truth is None:
            truth = np.full_like(nodes, NOT_PARSED)
        # Above level 1 is the root, which has number 0; above the root is -1.
        above = np.full(len(text_numbers), self._first_level - 1, dtype=np.int32)
        for column in range(text_numbers.shape[1]):
            level = self._first_level + column
            above = self._find_level(text_numbers[:, column], level, above, truth[:, column])
            nodes[:, column] = above
        return nodes

    def _find_level(
        self, text_numbers: IntArray, level: int, above: Numbers, truth: Numbers
    ) -> Numbers:
        """Find the nodes of one level, int32[N], below the nodes ``above``."""
        is_used = np.zeros(len(self._texts) + 1, dtype=np.bool_)
        is_used[text_numbers] = True
        # One more than there are texts: the last one is for EMPTY, which is -1.
        node_of_text = np.full(len(self._texts) + 1, NOT_PARSED, dtype=np.int32)
        namesakes: dict[int, list[int]] = {}
        for text_number in np.flatnonzero(is_used[:-1]).tolist():
            candidates = self._candidates(self._texts[text_number], level)
            if len(candidates) > 1:
                node_of_text[text_number] = _AMBIGUOUS
                namesakes[text_number] = candidates
            else:
                node_of_text[text_number] = candidates[0] if candidates else UNKNOWN
        nodes = node_of_text[text_numbers]
        samples = np.flatnonzero(nodes == _AMBIGUOUS)
        if len(samples):
            cases = np.column_stack([text_numbers[samples], above[samples], truth[samples]])
            distinct, case_of_sample = np.unique(cases, axis=0, return_inverse=True)
            chosen = [
                self._choose(namesakes[text_number], self._texts[text_number], node_above, right)
                for text_number, node_above, right in distinct.tolist()
            ]
            nodes[samples] = np.array(chosen, dtype=np.int32)[case_of_sample.reshape(-1)]
        return nodes

    def _candidates(self, text: str, level: int) -> list[int]:
        """Return the nodes that have this id or this name at a level."""
        number_of = self._nodes.numbers
        number = number_of.get(text)
        if number is not None and self._nodes.nodes[number].depth == level:
            return [number]
        return [number_of[node.id] for node in self._matches.at_level(text, level)]

    def _choose(self, namesakes: Sequence[int], text: str, above: int, right: int) -> int:
        """Return the namesake that is meant.

        That is one below the node above, of the same case if there is one; else the right one; else
        the first.
        """
        below = [number for number in namesakes if self._nodes.parents[number] == above]
        if not below and right in namesakes:
            return right
        for number in below:
            if self._nodes.nodes[number].name == text:
                return number
        return below[0] if below else namesakes[0]
