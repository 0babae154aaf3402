"""Hierarchical metrics over right and wrong levels, each with a bootstrap interval over samples.

Level 1 is the first one below the root. The root, level 0, is left out unless a caller scores it.
With ``c_j`` = 1 where the j-th scored level of a sample is right and L the number of its scored
levels, the mean over samples, in percent, of:

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
                                whose every level could be parsed (the others have no whole path).
                                A name that the taxonomy does not have makes such an edge
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

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sekd.analysis.paths import NOT_PARSED, Paths

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float64]

BY_LEVEL = ("level_accuracy", "accuracy_given_parent_correct", "accuracy_given_parent_wrong")
_Key: TypeAlias = tuple[str, int | None]
"""Of a term: the metric's name, and its level if it has one for each."""
_MAX_DRAWN = 1 << 22  # counts of a bootstrap in memory at a time


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
    first_level: int = 1
    """Level of the first column: 0 where the root is scored."""

    @classmethod
    def of(cls, paths: Paths) -> Outcomes:
        """What became of these paths."""
        return cls(
            correct=paths.correct,
            parsed=paths.prediction != NOT_PARSED,
            num_levels=paths.num_levels,
            off_tree=paths.off_tree,
            first_level=paths.first_level,
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
        no sample counts towards. The by-level metrics are keyed by level: "1" to "L" (from "0"
        where the root is scored), the conditional ones from the second level.

    Raises:
        ValueError: if there is no sample, or an argument is out of range.
    """
    _check(len(outcomes.correct), alpha, num_bootstrap)
    first, counts = _distinct(_flags(outcomes))
    terms = _terms(_pick(outcomes, first), alpha)
    numerators, denominators = _draw(terms, counts, num_bootstrap, seed)
    estimates = {
        key: _estimate(numerators[:, column], denominators[:, column])
        for column, key in enumerate(terms)
    }
    return {"num_samples": len(outcomes.correct), **_nested(estimates)}


def score_difference(
    a: Outcomes, b: Outcomes, *, alpha: float = 0.95, num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compute, for every metric of the module's table, ``a`` minus ``b`` over the same samples.

    A bootstrap draw takes a sample with both of its outcomes, so that what makes a sample hard for
    both does not widen the interval.

    Args:
        a: N samples.
        b: the same samples in the same order.
        alpha: as for :func:`score`.
        num_bootstrap: as for :func:`score`.
        seed: as for :func:`score`.

    Returns:
        As :func:`score`, but each estimate is ``{"a", "b", "value", "low", "high"}``: the two
        values in percent, and their difference with its interval in percentage points; None for a
        metric that no sample of one side counts towards.

    Raises:
        ValueError: if the samples have different levels, and as :func:`score`.
    """
    _check(len(a.correct), alpha, num_bootstrap)
    if a.first_level != b.first_level or not np.array_equal(a.num_levels, b.num_levels):
        raise ValueError("the samples of a and b do not have the same levels")
    first, counts = _distinct(np.column_stack([_flags(a), _flags(b)]))
    sides = [_terms(_pick(outcomes, first), alpha) for outcomes in (a, b)]
    both = {(side, key): term for side, terms in enumerate(sides) for key, term in terms.items()}
    numerators, denominators = _draw(both, counts, num_bootstrap, seed)
    columns = {key: column for column, key in enumerate(both)}
    estimates = {
        key: _difference(numerators[:, pair], denominators[:, pair])
        for key in sides[0]
        for pair in [[columns[0, key], columns[1, key]]]
    }
    return {"num_samples": len(a.correct), **_nested(estimates)}


def _check(num_samples: int, alpha: float, num_bootstrap: int) -> None:
    if num_samples == 0:
        raise ValueError("there are no samples to score; check the split and the filters")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; give 0 to 1")
    if num_bootstrap < 1:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; give at least 1")


def _flags(outcomes: Outcomes) -> BoolArray:
    """bool[N, F]: all that the metrics can tell apart of a sample."""
    scored = outcomes.scored
    return np.column_stack(
        [outcomes.correct & scored, scored, outcomes.unparsed, outcomes.off_tree]
    )


def _distinct(flags: BoolArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the index of one sample of each kind, and the size of each kind."""
    packed = np.packbits(flags, axis=1)
    padded = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    # As one number or as opaque bytes: `np.unique(axis=0)` goes field by field, and far longer.
    if padded.shape[1] == 8:
        kinds = padded.view(">u8")[:, 0].astype("u8")
    else:
        kinds = padded.view(f"V{padded.shape[1]}")[:, 0]
    _, first, counts = np.unique(kinds, return_index=True, return_counts=True)
    return first, counts


def _pick(outcomes: Outcomes, indices: NDArray[np.int64]) -> Outcomes:
    return Outcomes(
        correct=outcomes.correct[indices],
        parsed=outcomes.parsed[indices],
        num_levels=outcomes.num_levels[indices],
        off_tree=outcomes.off_tree[indices],
        first_level=outcomes.first_level,
    )


def _draw(
    terms: Mapping[Any, tuple[NDArray[Any], BoolArray]],
    counts: NDArray[np.int64],
    num_bootstrap: int,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Return each term's sum and number of samples ([1 + num_bootstrap, T]), the data's own first.

    Args:
        terms: T values and masks over the rows of a table of kinds of samples.
        counts: int64[R], samples of each kind.
    """
    values = np.stack([value for value, _ in terms.values()], axis=1)
    counted = np.stack([counted for _, counted in terms.values()], axis=1)
    summands = np.hstack([np.where(counted, values, 0.0), counted])
    rng = np.random.default_rng(seed)
    num_samples = counts.sum()
    sums = [counts[None] @ summands]
    at_a_time = max(1, _MAX_DRAWN // len(counts))
    for start in range(0, num_bootstrap, at_a_time):
        size = min(at_a_time, num_bootstrap - start)
        sums.append(rng.multinomial(num_samples, counts / num_samples, size) @ summands)
    numerators, denominators = np.hsplit(np.concatenate(sums), 2)
    return numerators, denominators


def _nested(estimates: Mapping[_Key, dict[str, float] | None]) -> dict[str, Any]:
    return {
        **{name: json for (name, level), json in estimates.items() if level is None},
        **{
            name: {str(level): json for (key, level), json in estimates.items() if key == name}
            for name in BY_LEVEL
        },
    }


def _terms(rows: Outcomes, alpha: float) -> dict[_Key, tuple[NDArray[Any], BoolArray]]:
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
    terms: dict[_Key, tuple[NDArray[Any], BoolArray]] = {
        (name, None): (value, everyone) for name, value in over_everyone.items()
    }
    terms["tice", None] = rows.off_tree, ~rows.unparsed
    for column, (is_correct, has_level) in enumerate(zip(correct.T, scored.T, strict=True)):
        level = rows.first_level + column
        terms["level_accuracy", level] = is_correct, has_level
        if column:
            parent = correct[:, column - 1]
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


def _difference(numerators: FloatArray, denominators: FloatArray) -> dict[str, float] | None:
    """Return the same of two columns, and of their difference."""
    if not denominators[0].all():
        return None
    drawn = denominators.all(axis=1)
    rates = 100 * numerators[drawn] / denominators[drawn]
    value, *draws = rates[:, 0] - rates[:, 1]
    low, high = np.percentile(draws, (2.5, 97.5)) if draws else (-100.0, 100.0)
    a, b = map(float, rates[0])
    return {"a": a, "b": b, "value": float(value), "low": float(low), "high": float(high)}
