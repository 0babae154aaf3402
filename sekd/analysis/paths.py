"""Truth and prediction of many samples as node numbers: what every metric is made from.

A million samples of seven levels are two arrays of 28 MB. Strings are looked at once per distinct
value, never once per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sekd.data.taxonomy import Node, Taxonomy
from sekd.io.columns import encode_column

BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[np.int32]

NOT_PARSED = -1
"""Instead of a node's number: no answer could be read."""
UNKNOWN = -2
"""Instead of a node's number: an answer was read that the taxonomy does not have."""


@dataclass(frozen=True, eq=False)
class NodeTable:
    """A taxonomy's nodes by number, a parent before its children; the root has number 0."""

    nodes: tuple[Node, ...]
    parents: Numbers
    """int32[K]: number of the parent; -1 for the root."""
    is_leaf: BoolArray
    """bool[K]: a path of the taxonomy's file ends here."""

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> NodeTable:
        """Number the nodes in the taxonomy's own order."""
        nodes = tuple(taxonomy.nodes)
        numbers = {node.id: number for number, node in enumerate(nodes)}
        parents = [-1 if node.parent is None else numbers[node.parent] for node in nodes]
        return cls(
            nodes,
            np.array(parents, dtype=np.int32),
            np.array([node.id in taxonomy.leaf_ids for node in nodes]),
        )

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number by node id."""
        return {node.id: number for number, node in enumerate(self.nodes)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Paths:
    """N samples with their right and their predicted path, of up to L levels.

    Column j is level ``first_level + j``; level 0 is the root.
    """

    nodes: NodeTable
    sample_ids: pa.StringArray
    truth: Numbers
    """int32[N, L]: node numbers; whatever lies past a sample's last level counts for nothing."""
    prediction: Numbers
    """int32[N, L]: node numbers, :data:`NOT_PARSED` or :data:`UNKNOWN`."""
    num_levels: IntArray
    """int64[N]: 1 to L."""
    first_level: int = 1
    """0 where the root is scored, else 1."""

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def scored(self) -> BoolArray:
        """bool[N, L]: False past a sample's last level."""
        return np.asarray(np.arange(self.truth.shape[1]) < self.num_levels[:, None])

    @cached_property
    def correct(self) -> BoolArray:
        """bool[N, L]: the prediction is the right node."""
        return np.asarray(self.scored & (self.truth == self.prediction))

    @cached_property
    def off_tree(self) -> BoolArray:
        """bool[N]: an answer is not a child of the answer above it.

        An answer that the taxonomy does not have has no place under or above another. Next to a
        level that could not be parsed there is no edge to judge.
        """
        above, below = self.prediction[:, :-1], self.prediction[:, 1:]
        has_edge = self.scored[:, 1:] & (above != NOT_PARSED) & (below != NOT_PARSED)
        is_edge = (below >= 0) & (self.nodes.parents[below] == above)
        return np.asarray((has_edge & ~is_edge).any(axis=1))

    @cached_property
    def whole_is_right(self) -> BoolArray:
        """bool[N]: every level is right."""
        return np.asarray((self.correct | ~self.scored).all(axis=1))

    @cached_property
    def leaf_is_right(self) -> BoolArray:
        """bool[N]: the last level is right."""
        return np.asarray(self.correct[np.arange(len(self)), self.num_levels - 1])

    def take(self, indices: IntArray) -> Paths:
        """Some of the samples, in the order of ``indices``, as deep as the deepest of them."""
        num_levels = self.num_levels[indices]
        deepest = num_levels.max(initial=1)
        return Paths(
            nodes=self.nodes,
            sample_ids=self.sample_ids.take(pa.array(indices)),
            truth=self.truth[indices, :deepest],
            prediction=self.prediction[indices, :deepest],
            num_levels=num_levels,
            first_level=self.first_level,
        )


def paths_of(rows: pa.Table, taxonomy: Taxonomy) -> Paths:
    """Paths of one model, dataset and paradigm; samples in order of their first row.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, in any order.

    Raises:
        ValueError: if a sample has a level twice or lacks one, or an id is no node.
    """
    nodes = NodeTable.of(taxonomy)
    samples, sample_ids = encode_column(rows["sample_id"])
    levels = rows["level"].to_numpy()
    num_samples, num_columns = len(sample_ids), int(levels.max(initial=1))
    cells = samples * num_columns + levels - 1
    num_rows = np.bincount(samples, minlength=num_samples)
    num_levels = np.zeros(num_samples, dtype=np.int64)
    np.maximum.at(num_levels, samples, levels)
    is_odd = (num_rows != num_levels) | (levels.min(initial=1) < 1)
    if is_odd.any() or (np.bincount(cells) > 1).any():
        odd = np.flatnonzero(is_odd) if is_odd.any() else samples[_repeated(cells)]
        raise ValueError(
            f"sample {sample_ids[int(odd[0])].as_py()!r} does not have each of its levels once"
        )

    def spread(name: str) -> Numbers:
        codes, ids = encode_column(rows[name])
        numbers = [nodes.numbers.get(node_id, UNKNOWN) for node_id in ids.to_pylist()]
        if UNKNOWN in numbers:
            raise ValueError(
                f"{name} {ids[numbers.index(UNKNOWN)].as_py()!r} is no node of {taxonomy.source}"
            )
        spread = np.full(num_samples * num_columns, NOT_PARSED, dtype=np.int32)
        spread[cells] = np.array([*numbers, NOT_PARSED], dtype=np.int32)[codes]
        return spread.reshape(num_samples, num_columns)

    return Paths(
        nodes=nodes,
        sample_ids=sample_ids,
        truth=spread("truth"),
        prediction=spread("prediction"),
        num_levels=num_levels,
    )


def _repeated(cells: IntArray) -> IntArray:
    counts = np.bincount(cells)
    return np.flatnonzero(counts[cells] > 1)
