"""Which nodes of a level are most similar to the right one, or to the image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import SimilarSpec
from sekd.data.taxonomy import Node, Taxonomy
from sekd.io.files import replace_atomically

# Shapes: N rows, K ranked nodes.

_NUM_SPARE = 4
"""Number of nodes that are ranked beyond those of a question: some may read alike."""


def num_ranked(num_options: int) -> int:
    """Return how many nodes are ranked for questions with so many options."""
    return num_options + _NUM_SPARE


@dataclass(frozen=True)
class SimilarNodes:
    """Nodes of a level, the most similar one first.

    Attributes:
        keys: what the rows are about: ids of nodes, or levels and ids of samples.
        places: int32[N, K]; indices of nodes among the peers of the right one, -1 for none.
    """

    spec: SimilarSpec
    keys: pa.Array
    places: npt.NDArray[np.int32]

    @staticmethod
    def key_of(spec: SimilarSpec, node: Node, sample_id: str) -> str:
        """Return the key of the row about a node, or about the image of a sample at its level."""
        return node.id if spec.by == "name" else f"{node.depth}/{sample_id}"

    def ranked(self, taxonomy: Taxonomy, node: Node, sample_id: str) -> Sequence[Node] | None:
        """Return the ranked peers of a node; ``None`` where there are none for this sample."""
        row = self._rows.get(self.key_of(self.spec, node, sample_id))
        if row is None:
            return None
        peers = taxonomy.peers(node)
        return [peers[place] for place in self.places[row].tolist() if place >= 0]

    def digest(self) -> str:
        """Return a SHA-256 over all ranks."""
        sha256 = hashlib.sha256("\n".join(self.keys.to_pylist()).encode())
        sha256.update(np.ascontiguousarray(self.places).tobytes())
        return sha256.hexdigest()

    def by_sample(self) -> dict[str, list[list[int]]]:
        """Return the rows of each sample, where the rows are about images."""
        rows: dict[str, list[list[int]]] = {}
        for key, places in zip(self.keys.to_pylist(), self.places.tolist(), strict=True):
            rows.setdefault(key.partition("/")[2], []).append(places)
        return rows

    def write(self, path: Path) -> None:
        """Store the ranks as Parquet."""
        places = pa.FixedSizeListArray.from_arrays(self.places.ravel(), self.places.shape[1])
        with replace_atomically(path) as temporary:
            pq.write_table(pa.table({"key": self.keys, "places": places}), temporary)

    @classmethod
    def read(cls, path: Path, spec: SimilarSpec) -> SimilarNodes | None:
        """Read what :meth:`write` stored; ``None`` if it is missing or damaged."""
        try:
            table = pq.read_table(path).combine_chunks()
            places = table["places"].combine_chunks()
            flat = places.flatten().to_numpy(zero_copy_only=False)
            return cls(spec, table["key"].combine_chunks(), flat.reshape(len(table), -1))
        except (OSError, KeyError, ValueError, pa.ArrowException):
            return None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys.to_pylist())}


def rank_most_similar(similarity: npt.NDArray[np.float32], num_nodes: int) -> npt.NDArray[np.int32]:
    """Return the places of the highest values of each row, the highest first; of equals, the first.

    Args:
        similarity: float32[N, number of peers].
        num_nodes: K; rows of fewer peers are filled up with -1.
    """
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :num_nodes].astype(np.int32)
    missing = num_nodes - order.shape[1]
    return np.pad(order, ((0, 0), (0, missing)), constant_values=-1)
