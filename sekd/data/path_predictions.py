"""Predicted paths: what a model says about images whose labels nobody knows, and their flat rows.

A prediction holds what the model said. Down to which rank to trust it is decided afterwards
(:meth:`PathPrediction.accept`), so another threshold asks the model nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa

from sekd.data.row_schema import column, row_of, schema_of
from sekd.data.taxonomy import Taxonomy


@dataclass(frozen=True)
class PredictedLevel:
    """One node of a predicted path.

    Attributes:
        rank: of the node, such as ``genus``.
        node: its id, the path from the root joined by ``/``.
        name: as the taxonomy writes it.
        common_name: of a leaf, where the taxonomy gives one.
        probability: of the node among the children of its parent, 0 to 1.
        path_probability: of the whole path down to this node: the product of the above.
    """

    rank: str
    node: str
    name: str
    common_name: str | None
    probability: float
    path_probability: float


@dataclass(frozen=True)
class RankedPath:
    """One of the most probable paths: the id of its last node, its names, and its probability."""

    leaf: str
    names: tuple[str, ...]
    probability: float


_LEVEL = pa.struct(
    [
        *((name, pa.string()) for name in ("rank", "node", "name", "common_name")),
        *((name, pa.float64()) for name in ("probability", "path_probability")),
    ]
)
_PATH = pa.struct(
    [("leaf", pa.string()), ("names", pa.list_(pa.string())), ("probability", pa.float64())]
)


def _levels_of_cells(cells: Iterable[Mapping[str, Any]]) -> tuple[PredictedLevel, ...]:
    return tuple(PredictedLevel(**cell) for cell in cells)


def _paths_of_cells(cells: Iterable[Mapping[str, Any]]) -> tuple[RankedPath, ...]:
    return tuple(
        RankedPath(cell["leaf"], tuple(cell["names"]), cell["probability"]) for cell in cells
    )


@dataclass(frozen=True, kw_only=True)
class PathPrediction:
    """The path that a model predicts for one image, or the reason why there is none.

    Attributes:
        image: the path of its file, or another name of the image.
        levels: the nodes of the path from the first one below the root; none after an error.
        accepted: the deepest level that :meth:`accept` trusts; ``None`` if it trusts none.
        stopped: why it trusts no deeper level, as a sentence; ``None`` where it trusts the leaf.
        outside: the probability that the model gave to leaves which a restriction left out, 0 to 1,
            of the choices that it was asked about; ``None`` without a restriction.
        paths: the most probable paths, best first; the first is that of ``levels``.
        is_calibrated: temperatures that were fitted on labelled images were applied.
        error: why there is no prediction; ``None`` where there is one.
    """

    image: str = column(pa.string())
    levels: tuple[PredictedLevel, ...] = column(pa.list_(_LEVEL), read=_levels_of_cells, default=())
    accepted: PredictedLevel | None = column(
        _LEVEL, nullable=True, read=lambda cell: PredictedLevel(**cell), default=None
    )
    stopped: str | None = column(pa.string(), nullable=True, default=None)
    outside: float | None = column(pa.float64(), nullable=True, default=None)
    paths: tuple[RankedPath, ...] = column(pa.list_(_PATH), read=_paths_of_cells, default=())
    is_calibrated: bool = column(pa.bool_(), default=False)
    error: str | None = column(pa.string(), nullable=True, default=None)

    @property
    def probability(self) -> float | None:
        """The probability of the whole path; ``None`` after an error."""
        return self.levels[-1].path_probability if self.levels else None

    def accept(self, min_confidence: float) -> PathPrediction:
        """Trust the path down to its deepest node whose path is at least this probable.

        Args:
            min_confidence: 0 to 1; 0 trusts the whole path.
        """
        # Probabilities of paths fall from level to level, so the trusted ones stand in front.
        trusted = [each for each in self.levels if each.path_probability >= min_confidence]
        doubtful = self.levels[len(trusted) : len(trusted) + 1]
        return replace(
            self,
            accepted=trusted[-1] if trusted else None,
            stopped=next((_why_stopped(each, min_confidence) for each in doubtful), None),
        )

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the probability, as JSON can hold them."""
        return self.cells() | {"probability": self.probability}

    def cells(self) -> dict[str, Any]:
        """Return the cells of the stored row: column -> value."""
        # vars() instead of asdict(), which takes as long as a small model does for an image.
        accepted = None if self.accepted is None else vars(self.accepted)
        return vars(self) | {
            "levels": [vars(level) for level in self.levels],
            "paths": [vars(path) for path in self.paths],
            "accepted": accepted,
        }


def _why_stopped(level: PredictedLevel, min_confidence: float) -> str:
    return (
        f"{level.rank}: {level.name} has a probability of {level.path_probability:.3g}, less than "
        f"{min_confidence:g}"
    )


PATH_PREDICTION_SCHEMA = schema_of(PathPrediction)


def paths_to_table(predictions: Iterable[PathPrediction]) -> pa.Table:
    """Return predictions as a table of :data:`PATH_PREDICTION_SCHEMA`."""
    return pa.Table.from_pylist([each.cells() for each in predictions], PATH_PREDICTION_SCHEMA)


def paths_from_table(table: pa.Table) -> Iterator[PathPrediction]:
    """Yield the predictions of a table that :func:`paths_to_table` made."""
    for cells in table.to_pylist():
        yield row_of(PathPrediction, cells)


_TEXT, _NUMBER = pa.string(), pa.float64()


@dataclass(frozen=True)
class FlatRows:
    """The columns of flat rows, one row for each image; the taxonomy says which ranks there are.

    There is a column for the name of each rank, and one, ``<rank>_probability``, for the
    probability of the path down to it. A rank that a path may hold twice has a second column,
    ``<rank> 2``. A rank whose name is that of another column has ``rank`` in front.

    Attributes:
        ranks: (rank, which one of this rank in a path, from 1) -> its column, from the top down.
        has_common_names: there is a column for the common name of the leaf.
        num_paths: the number of most probable paths that have columns; 1 gives them none, because
            the ranks hold the first path.
    """

    ranks: Mapping[tuple[str, int], str]
    has_common_names: bool = False
    num_paths: int = 1

    @classmethod
    def of(cls, taxonomy: Taxonomy, num_paths: int = 1) -> Self:
        """Find the columns of a taxonomy."""
        depths: dict[tuple[str, int], int] = {}
        for node in taxonomy.nodes:
            path = taxonomy.path(node)
            for key in list(_numbered(each.rank for each in path))[-1:]:
                depths[key] = max(node.depth, depths.get(key, 0))
        taken = {
            "image",
            "common_name",
            *_FIXED_COLUMNS,
            *(f"path_{n}" for n in range(1, num_paths + 1)),
        }
        columns: dict[tuple[str, int], str] = {}
        for rank, number in sorted(depths, key=lambda key: (depths[key], key[1])):
            name = rank if number == 1 else f"{rank} {number}"
            while name in taken or f"{name}_probability" in taken:
                name = f"rank {name}"
            taken |= {name, f"{name}_probability"}
            columns[rank, number] = name
        return cls(columns, any(map(taxonomy.common_name, taxonomy.nodes)), num_paths)

    @property
    def schema(self) -> pa.Schema:
        """The names and types of the columns."""
        columns = {"image": _TEXT}
        for name in self.ranks.values():
            columns |= {name: _TEXT, f"{name}_probability": _NUMBER}
        if self.has_common_names:
            columns["common_name"] = _TEXT
        columns |= _FIXED_COLUMNS
        if self.num_paths > 1:
            for number in range(1, self.num_paths + 1):
                columns |= {f"path_{number}": _TEXT, f"path_{number}_probability": _NUMBER}
        return pa.schema(columns)

    def row(self, prediction: PathPrediction) -> dict[str, Any]:
        """Return the row of a prediction: column -> cell; what does not apply is ``None``."""
        row: dict[str, Any] = dict.fromkeys(self.schema.names)
        levels, accepted = prediction.levels, prediction.accepted
        for key, level in zip(_numbered(each.rank for each in levels), levels, strict=True):
            name = self.ranks[key]
            row |= {name: level.name, f"{name}_probability": level.path_probability}
        if self.has_common_names and levels:
            row["common_name"] = levels[-1].common_name
        if accepted is not None:
            row |= {
                "accepted_rank": accepted.rank,
                "accepted_name": accepted.name,
                "accepted_probability": accepted.path_probability,
            }
        if self.num_paths > 1:
            for number, path in enumerate(prediction.paths[: self.num_paths], start=1):
                row |= {f"path_{number}": path.leaf, f"path_{number}_probability": path.probability}
        return row | {
            "image": prediction.image,
            "leaf": levels[-1].node if levels else None,
            "probability": prediction.probability,
            "stopped": prediction.stopped,
            "outside": prediction.outside,
            "calibrated": prediction.is_calibrated,
            "error": prediction.error,
        }


_FIXED_COLUMNS = {
    "leaf": _TEXT,
    "probability": _NUMBER,
    "accepted_rank": _TEXT,
    "accepted_name": _TEXT,
    "accepted_probability": _NUMBER,
    "stopped": _TEXT,
    "outside": _NUMBER,
    "calibrated": pa.bool_(),
    "error": _TEXT,
}


def _numbered(ranks: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Pair each rank of a path with which one of this name it is, from 1."""
    counts: Counter[str] = Counter()
    for rank in ranks:
        counts[rank] += 1
        yield rank, counts[rank]
