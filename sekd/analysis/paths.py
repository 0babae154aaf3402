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
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[np.int32]

NOT_PARSED = -1
"""Stands instead of a node's number where the answer could not be parsed."""
UNKNOWN = -2
"""Stands instead of a node's number where the taxonomy does not have the answer."""


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
    """int32[N, L]: node numbers; entries past a sample's last level are ignored."""
    prediction: Numbers
    """int32[N, L]: node numbers, :data:`NOT_PARSED` or :data:`UNKNOWN`."""
    num_levels: IntArray
    """int64[N]: 1 to L."""
    first_level: int = 1
    """0 where the root is scored, else 1."""
    clusters: IntArray | None = None
    """int64[N]: the cluster of each sample; see :class:`sekd.analysis.outcomes.Outcomes`."""

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

        An answer that the taxonomy does not have is a child of no other answer and the parent of
        none. Next to a level that could not be parsed there is no edge to judge, and none below the
        end of a path, where its last node comes again.
        """
        above, below = self.prediction[:, :-1], self.prediction[:, 1:]
        has_edge = self.scored[:, 1:] & (above != NOT_PARSED) & (below != NOT_PARSED)
        has_edge &= (below != above) | (below < 0)
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
        """Return some of the samples, in the order of ``indices``, as deep as the deepest one."""
        num_levels = self.num_levels[indices]
        deepest = num_levels.max(initial=1)
        return Paths(
            nodes=self.nodes,
            sample_ids=self.sample_ids.take(pa.array(indices)),
            truth=self.truth[indices, :deepest],
            prediction=self.prediction[indices, :deepest],
            num_levels=num_levels,
            first_level=self.first_level,
            clusters=None if self.clusters is None else _renumber(self.clusters[indices]),
        )


def _renumber(numbers: IntArray) -> IntArray:
    """Return the same groups of equal numbers, numbered from 0 without a gap."""
    return np.unique(numbers, return_inverse=True)[1].reshape(-1)


def paths_of(rows: pa.Table, taxonomy: Taxonomy) -> Paths:
    """Return the paths of one model, dataset and paradigm; samples in order of their first row.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, in any order.

    Raises:
        ValueError: if a sample has a level twice or lacks one, or an id is no node.
    """
    nodes = NodeTable.of(taxonomy)
    samples, sample_ids = encode_column(rows["sample_id"])
    levels = rows["level"].to_numpy()
    num_samples, num_columns = len(sample_ids), int(levels.max(initial=1))
    places = samples * num_columns + levels - 1  # of each row in a flat [N, L] array
    num_rows = np.bincount(samples, minlength=num_samples)
    num_levels = np.zeros(num_samples, dtype=np.int64)
    np.maximum.at(num_levels, samples, levels)
    lacks_level = (num_rows != num_levels) | (levels.min(initial=1) < 1)
    if lacks_level.any() or (np.bincount(places) > 1).any():
        faulty = np.flatnonzero(lacks_level) if lacks_level.any() else samples[_repeated(places)]
        raise ValueError(
            f"sample {sample_ids[int(faulty[0])].as_py()!r} does not have each of its levels once"
        )

    def node_numbers(name: str) -> Numbers:
        codes, ids = encode_column(rows[name])
        numbers = [nodes.numbers.get(node_id, UNKNOWN) for node_id in ids.to_pylist()]
        if UNKNOWN in numbers:
            raise ValueError(
                f"{name} {ids[numbers.index(UNKNOWN)].as_py()!r} is no node of {taxonomy.source}"
            )
        flat = np.full(num_samples * num_columns, NOT_PARSED, dtype=np.int32)
        flat[places] = np.array([*numbers, NOT_PARSED], dtype=np.int32)[codes]
        return flat.reshape(num_samples, num_columns)

    return Paths(
        nodes=nodes,
        sample_ids=sample_ids,
        truth=node_numbers("truth"),
        prediction=node_numbers("prediction"),
        num_levels=num_levels,
    )


def _repeated(values: IntArray) -> IntArray:
    """Return the indices of the values that occur more than once."""
    counts = np.bincount(values)
    return np.flatnonzero(counts[values] > 1)
