"""Hierarchical metrics over right and wrong levels, each with a bootstrap interval over samples.

Level 1 is the first *scored* level: a caller that leaves the root out passes the levels below it.
With ``c_j`` = 1 where level j of a sample is right and L the sample's number of levels, the mean
over samples, in percent, of:

==============================  =================================================================
``hca``                         every level is right
``leaf_accuracy``               c_L
``por``                         sum_j c_j / L
``tor``                         sum_j c_j c_(j+1) / (L - 1); 0 where L = 1
``spor_prefix``                 length of the right prefix / L
``spor_run``                    length of the longest right run anywhere / L
``dwpa``                        sum_l w_l [levels 1 to l are right]; w_L = alpha (1 where L = 1),
                                the others (1 - alpha) / (L - 1)
``tice``                        the path has an edge that the taxonomy lacks; over the samples
                                whose every level could be parsed (the others have no whole path)
``parse_failure_rate``          at least one level could not be parsed
``level_accuracy``              c_l, over the samples that have level l
``accuracy_given_parent_*``     the same, over those of them whose level l - 1 is right or wrong
==============================  =================================================================

A level that could not be parsed is not right: it stays in the denominator of every accuracy, and is
no guess. The exact weights of ``dwpa`` in the v2 paper are not public; these are ours.

Cost: samples with the same flags are one row of a small table (a few hundred rows for seven
levels), and a bootstrap draw is a multinomial over that table. This is the bootstrap over samples
itself, not an approximation, and does not depend on the order of the samples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]

_BY_LEVEL = ("level_accuracy", "accuracy_given_parent_correct", "accuracy_given_parent_wrong")
_WHOLE_PATH = 0  # stands for "no level" in the key of a term


@dataclass(frozen=True)
class Estimate:
    """A rate in percent and the ends of its bootstrap 95 % percentile interval over samples."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return ``{"value": ..., "low": ..., "high": ...}``."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """What became of N samples at up to L levels; a sample's entries past its last are ignored.

    Raises:
        ValueError: on a wrong shape or dtype, a number of levels outside 1 to L, or a scored level
            that is correct but not parsed.
    """

    correct: BoolArray
    """bool[N, L]: the level's answer is right."""
    parsed: BoolArray
    """bool[N, L]: the level's answer could be read from the reply."""
    num_levels: NDArray[np.integer[Any]]
    """int[N]: levels scored, 1 to L."""
    off_tree: BoolArray
    """bool[N]: the predicted path has a parent-child edge that the taxonomy lacks."""

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
        guessed = np.argwhere(self.scored & self.correct & ~self.parsed)
        if guessed.size:
            sample, column = guessed[0]
            raise ValueError(
                f"sample {sample}, level {column + 1} is correct but not parsed; "
                "an answer that could not be read is never correct"
            )

    @property
    def scored(self) -> BoolArray:
        """bool[N, L]: False in the padding."""
        return np.arange(self.correct.shape[1]) < self.num_levels[:, None]

    @property
    def unparsed(self) -> BoolArray:
        """bool[N]: at least one scored level was not parsed."""
        return np.asarray((self.scored & ~self.parsed).any(axis=1))


def score(
    outcomes: Outcomes, *, alpha: float = 0.95, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compute every metric of the module's table, ready for JSON.

    All metrics share their bootstrap draws. A draw that holds no sample of a metric says nothing
    about it and is left out of its interval; if that leaves no draw, the interval is 0 to 100.

    Args:
        alpha: weight of the last level in ``dwpa``, 0 to 1. The paper does not give it.
        num_bootstrap: draws behind each interval, at least 1.
        seed: of the draws; the same outcomes and seed give the same result.

    Returns:
        ``num_samples`` and, by name, :meth:`Estimate.to_json` in percent, or None for a metric that
        no sample counts towards. The by-level metrics are keyed by level: "1" to "L", the
        conditional ones from "2".

    Raises:
        ValueError: if there is no sample, or an argument is out of range.
    """
    num_samples = len(outcomes.correct)
    if num_samples == 0:
        raise ValueError("there are no samples to score; check the split and the filters")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; give 0 to 1")
    if num_bootstrap < 1:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; give at least 1")

    rows, counts = _distinct_rows(outcomes)
    terms = _terms(rows, alpha)
    values = np.stack([value for value, _ in terms.values()], axis=1)
    counted = np.stack([counted for _, counted in terms.values()], axis=1)
    summands = np.hstack([np.where(counted, values, 0.0), counted])

    rng = np.random.default_rng(seed)
    sums = np.empty((1 + num_bootstrap, summands.shape[1]))
    sums[0] = counts @ summands
    # One draw at a time: memory stays that of the table, however deep and ragged the taxonomy is.
    for draw in range(1, 1 + num_bootstrap):
        sums[draw] = rng.multinomial(num_samples, counts / num_samples) @ summands

    numerators, denominators = np.hsplit(sums, 2)
    estimates = {
        key: _estimate(numerators[:, column], denominators[:, column])
        for column, key in enumerate(terms)
    }
    return {
        "num_samples": num_samples,
        **{name: json for (name, level), json in estimates.items() if level == _WHOLE_PATH},
        **{
            name: {str(level): json for (key, level), json in estimates.items() if key == name}
            for name in _BY_LEVEL
        },
    }


def _distinct_rows(outcomes: Outcomes) -> tuple[Outcomes, NDArray[np.int64]]:
    """Return one sample of each kind that the metrics can tell apart, and the size of each kind."""
    scored = outcomes.scored
    flags = np.column_stack(
        [outcomes.correct & scored, scored, outcomes.unparsed, outcomes.off_tree]
    )
    packed = np.packbits(flags, axis=1)
    # As opaque bytes: `np.unique(packed, axis=0)` compares field by field and takes far longer.
    keys = packed.view(f"V{packed.shape[1]}")[:, 0]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    rows = Outcomes(
        correct=outcomes.correct[first],
        parsed=outcomes.parsed[first],
        num_levels=outcomes.num_levels[first],
        off_tree=outcomes.off_tree[first],
    )
    return rows, counts


def _terms(rows: Outcomes, alpha: float) -> dict[tuple[str, int], tuple[NDArray[Any], BoolArray]]:
    """Return, by metric and level, each row's value ([N], 0 to 1) and whether it counts (bool[N]).

    A metric is the mean of its value over the rows that count.
    """
    scored = rows.scored
    correct = rows.correct & scored
    num_levels = rows.num_levels
    num_correct = correct.sum(axis=1)
    num_pairs = (correct[:, 1:] & correct[:, :-1]).sum(axis=1)
    prefix = np.logical_and.accumulate(correct, axis=1).sum(axis=1)
    run = longest_run = np.zeros_like(prefix)
    for is_correct in correct.T:
        run = (run + 1) * is_correct
        longest_run = np.maximum(longest_run, run)
    is_full = prefix == num_levels
    num_inner = np.maximum(num_levels - 1, 1)  # a single level has no inner one: divide by 1
    inner_prefix = np.minimum(prefix, num_levels - 1) / num_inner
    dwpa = np.where(num_levels == 1, is_full, alpha * is_full + (1 - alpha) * inner_prefix)
    over_everyone = {
        "hca": is_full,
        "leaf_accuracy": correct[np.arange(len(correct)), num_levels - 1],
        "por": num_correct / num_levels,
        "tor": num_pairs / num_inner,
        "spor_prefix": prefix / num_levels,
        "spor_run": longest_run / num_levels,
        "dwpa": dwpa,
        "parse_failure_rate": rows.unparsed,
    }
    everyone = np.ones(len(correct), dtype=np.bool_)
    terms: dict[tuple[str, int], tuple[NDArray[Any], BoolArray]] = {
        (name, _WHOLE_PATH): (value, everyone) for name, value in over_everyone.items()
    }
    terms["tice", _WHOLE_PATH] = rows.off_tree, ~rows.unparsed
    for level, (is_correct, has_level) in enumerate(zip(correct.T, scored.T, strict=True), 1):
        terms["level_accuracy", level] = is_correct, has_level
        if level > 1:
            parent = correct[:, level - 2]
            terms["accuracy_given_parent_correct", level] = is_correct, has_level & parent
            terms["accuracy_given_parent_wrong", level] = is_correct, has_level & ~parent
    return terms


def _estimate(numerators: FloatArray, denominators: FloatArray) -> dict[str, float] | None:
    """Return the estimate from [1 + num_bootstrap] sums, of which the first is the data's own."""
    if denominators[0] == 0:
        return None
    drawn = denominators > 0
    value, *draws = 100 * numerators[drawn] / denominators[drawn]
    low, high = np.percentile(draws, (2.5, 97.5)) if draws else (0.0, 100.0)
    return Estimate(float(value), float(low), float(high)).to_json()
