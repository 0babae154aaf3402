"""The input of the metrics: which levels of which samples are right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sekd.analysis.metrics import PathFlags
from sekd.analysis.paths import NOT_PARSED, BoolArray, IntArray, Paths


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """Right and wrong answers of N samples at up to L levels.

    A sample's entries past its last level are ignored.

    Raises:
        ValueError: on a wrong shape or dtype, a number of levels outside 1 to L, or a scored level
            that is correct but not parsed.
    """

    correct: BoolArray
    """bool[N, L]: the level's answer is right."""
    parsed: BoolArray
    """bool[N, L]: the level's answer could be parsed."""
    num_levels: NDArray[np.integer[Any]]
    """int[N]: the number of scored levels, 1 to L."""
    off_tree: BoolArray
    """bool[N]: the predicted path has a parent-child edge that the taxonomy lacks."""
    first_level: int = 1
    """Level of the first column: 0 where the root is scored."""
    clusters: IntArray | None = None
    """int64[N]: the cluster of each sample, from 0, where samples of one cluster depend on each
    other; ``None`` where every sample stands for itself."""

    @classmethod
    def of(cls, paths: Paths) -> Outcomes:
        """Compare the predicted paths with the right ones."""
        return cls(
            correct=paths.correct,
            parsed=paths.prediction != NOT_PARSED,
            num_levels=paths.num_levels,
            off_tree=paths.off_tree,
            first_level=paths.first_level,
            clusters=paths.clusters,
        )

    @classmethod
    def of_whole_paths(cls, is_right_N: BoolArray) -> Outcomes:
        """Score each whole path as a single level, which is right or wrong."""
        return cls(
            correct=is_right_N[:, None],
            parsed=np.ones((len(is_right_N), 1), dtype=np.bool_),
            num_levels=np.ones(len(is_right_N), dtype=np.int64),
            off_tree=np.zeros(len(is_right_N), dtype=np.bool_),
        )

    def __post_init__(self) -> None:
        if self.correct.ndim != 2 or self.correct.shape[1] == 0:
            raise ValueError(f"correct has shape {self.correct.shape}; give [N, L] with L >= 1")
        num_samples, max_levels = self.correct.shape
        for name, shape, kinds in (
            ("correct", (num_samples, max_levels), "b"),
            ("parsed", (num_samples, max_levels), "b"),
            ("num_levels", (num_samples,), "iu"),
            ("off_tree", (num_samples,), "b"),
        ):
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}; correct asks for {shape}")
            if array.dtype.kind not in kinds:
                kind = "bool" if kinds == "b" else "integer"
                raise ValueError(f"{name} has dtype {array.dtype}; give {kind}")
        outside = np.flatnonzero((self.num_levels < 1) | (self.num_levels > max_levels))
        if outside.size:
            sample = outside[0]
            raise ValueError(
                f"num_levels[{sample}] is {self.num_levels[sample]}; give 1 to {max_levels}"
            )
        contradictions = np.argwhere(self.scored & self.correct & ~self.parsed)
        if contradictions.size:
            sample, column = contradictions[0]
            raise ValueError(
                f"sample {sample}, level {column + 1} is correct but not parsed; "
                "an answer that could not be read is never correct"
            )

    def __len__(self) -> int:
        return len(self.correct)

    @cached_property
    def scored(self) -> BoolArray:
        """bool[N, L]: False in the padding."""
        return np.asarray(np.arange(self.correct.shape[1]) < self.num_levels[:, None])

    @cached_property
    def unparsed(self) -> BoolArray:
        """bool[N]: at least one scored level was not parsed."""
        return np.asarray((self.scored & ~self.parsed).any(axis=1))

    def stacked_flags(self) -> BoolArray:
        """bool[N, F]: everything by which the metrics tell samples apart."""
        return np.column_stack(
            [self.correct & self.scored, self.scored, self.unparsed, self.off_tree]
        )

    def flags(self, indices: IntArray, alpha: float) -> PathFlags:
        """Return what the formulas need of some of the samples.

        Args:
            indices: int64[M]: the samples.
            alpha: weight of the last level in DWPA.
        """
        scored = self.scored[indices]
        return PathFlags(
            correct=self.correct[indices] & scored,
            scored=scored,
            unparsed=self.unparsed[indices],
            off_tree=self.off_tree[indices],
            alpha=alpha,
        )
