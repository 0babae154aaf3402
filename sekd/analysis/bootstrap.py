"""Every metric of the registry with its bootstrap interval over samples.

Cost: samples with the same flags are one row of a small table (a few hundred rows for seven
levels), and a bootstrap draw is a multinomial over that table. This is the bootstrap over samples
itself, not an approximation, and does not depend on the order of the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from sekd.analysis.estimates import Difference, Estimate, MetricValues, Rate
from sekd.analysis.metrics import LEVEL_METRICS, PATH_METRICS, PathFlags, SampleValues
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import BoolArray, FloatArray, IntArray

_MAX_COUNTS = 1 << 22  # counts of drawn samples in memory at a time

_Key: TypeAlias = tuple[str, int | None]
"""A metric and its level; the level is ``None`` for a metric of whole paths."""


class _Term(NamedTuple):
    """A metric at one level: the mean of ``values`` over the samples that count; both are [N]."""

    values: SampleValues
    counts: BoolArray


def compute_metrics(
    outcomes: Outcomes, *, alpha: float = 0.95, num_bootstrap: int = 1000, seed: int = 0
) -> MetricValues[Estimate]:
    """Compute every metric of the registry.

    All metrics share their bootstrap draws. A draw that holds no sample of a metric says nothing
    about it and is left out of its interval; if that leaves no draw, the interval is 0 to 100.

    Args:
        alpha: weight of the last level in DWPA, 0 to 1. The paper does not give it.
        num_bootstrap: number of draws behind each interval, at least 1.
        seed: seed of the draws; the same outcomes and seed give the same result.

    Returns:
        Rates in percent; ``None`` for a metric that no sample counts towards. Levels start at the
        first scored one, those of the conditional metrics at the second.

    Raises:
        ValueError: if there is no sample, or an argument is out of range.
    """
    _check_arguments(len(outcomes), alpha, num_bootstrap)
    first, counts = _distinct_rows(outcomes.stacked_flags())
    terms = _metric_terms(outcomes.flags(first, alpha), outcomes.first_level)
    sums, totals = _draw_sums(list(terms.values()), counts, num_bootstrap, seed)
    estimates = {
        key: _estimate_rate(sums[:, column], totals[:, column]) for column, key in enumerate(terms)
    }
    return _to_metric_values(len(outcomes), estimates)


def compute_differences(
    a: Outcomes, b: Outcomes, *, alpha: float = 0.95, num_bootstrap: int = 1000, seed: int = 0
) -> MetricValues[Difference]:
    """Compute ``a - b`` for every metric of the registry, over the same samples.

    A bootstrap draw takes a sample with both of its outcomes, so that what makes a sample hard for
    both does not widen the interval.

    Args:
        a: N samples.
        b: the same samples in the same order.
        alpha, num_bootstrap, seed: as for :func:`compute_metrics`.

    Returns:
        The two values in percent, and their difference with its interval in percentage points;
        ``None`` for a metric that no sample of one side counts towards.

    Raises:
        ValueError: if the samples have different levels, and as :func:`compute_metrics`.
    """
    _check_arguments(len(a), alpha, num_bootstrap)
    if a.first_level != b.first_level or not np.array_equal(a.num_levels, b.num_levels):
        raise ValueError("the samples of a and b do not have the same levels")
    first, counts = _distinct_rows(np.column_stack([a.stacked_flags(), b.stacked_flags()]))
    terms_a = _metric_terms(a.flags(first, alpha), a.first_level)
    terms_b = _metric_terms(b.flags(first, alpha), b.first_level)
    sums, totals = _draw_sums([*terms_a.values(), *terms_b.values()], counts, num_bootstrap, seed)
    num_terms = len(terms_a)
    estimates = {
        key: _estimate_difference(
            sums[:, [column, num_terms + column]], totals[:, [column, num_terms + column]]
        )
        for column, key in enumerate(terms_a)
    }
    return _to_metric_values(len(a), estimates)


def _check_arguments(num_samples: int, alpha: float, num_bootstrap: int) -> None:
    if num_samples == 0:
        raise ValueError("there are no samples to score; check the split and the filters")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; give 0 to 1")
    if num_bootstrap < 1:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; give at least 1")


def _distinct_rows(flags: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the index of the first of each kind of row, and the number of rows of each kind."""
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


def _metric_terms(flags: PathFlags, first_level: int) -> dict[_Key, _Term]:
    """Evaluate every formula of the registry on a table of samples."""
    terms: dict[_Key, _Term] = {
        (metric.key, None): _Term(metric.value(flags), metric.counts(flags))
        for metric in PATH_METRICS
    }
    for level_metric in LEVEL_METRICS:
        columns = zip(level_metric.value(flags).T, level_metric.counts(flags).T, strict=True)
        for level, (values, counts) in enumerate(columns, first_level):
            if level > first_level or not level_metric.needs_parent:
                terms[level_metric.key, level] = _Term(values, counts)
    return terms


def _draw_sums(
    terms: Sequence[_Term], counts: IntArray, num_bootstrap: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Sum the values and the samples of each term, over the data and over each bootstrap draw.

    Args:
        terms: T terms over the R rows of a table of kinds of samples.
        counts: int64[R]: the number of samples of each kind.

    Returns:
        Two arrays float64[1 + num_bootstrap, T], whose first row is that of the data.
    """
    values = np.stack([term.values for term in terms], axis=1)
    is_counted = np.stack([term.counts for term in terms], axis=1)
    summands = np.hstack([np.where(is_counted, values, 0.0), is_counted])
    rng = np.random.default_rng(seed)
    num_samples = counts.sum()
    sums = [counts[None] @ summands]
    draws_at_a_time = max(1, _MAX_COUNTS // len(counts))
    for start in range(0, num_bootstrap, draws_at_a_time):
        size = min(draws_at_a_time, num_bootstrap - start)
        sums.append(rng.multinomial(num_samples, counts / num_samples, size) @ summands)
    value_sums, num_counted = np.hsplit(np.concatenate(sums), 2)
    return value_sums, num_counted


def _estimate_rate(sums: FloatArray, totals: FloatArray) -> Estimate | None:
    """Divide float64[1 + num_bootstrap] sums, of which the first is that of the data."""
    if totals[0] == 0:
        return None
    is_drawn = totals > 0
    value, *draws = 100 * sums[is_drawn] / totals[is_drawn]
    low, high = np.percentile(draws, (2.5, 97.5)) if draws else (0.0, 100.0)
    return Estimate(float(value), float(low), float(high))


def _estimate_difference(sums: FloatArray, totals: FloatArray) -> Difference | None:
    """Divide two columns, float64[1 + num_bootstrap, 2], and subtract the second rate."""
    if not totals[0].all():
        return None
    is_drawn = totals.all(axis=1)
    rates = 100 * sums[is_drawn] / totals[is_drawn]
    value, *draws = rates[:, 0] - rates[:, 1]
    low, high = np.percentile(draws, (2.5, 97.5)) if draws else (-100.0, 100.0)
    a, b = rates[0]
    return Difference(float(value), float(low), float(high), a=float(a), b=float(b))


def _to_metric_values(
    num_samples: int, estimates: Mapping[_Key, Rate | None]
) -> MetricValues[Rate]:
    return MetricValues(
        num_samples,
        {metric.key: estimates[metric.key, None] for metric in PATH_METRICS},
        {
            metric.key: {
                level: rate
                for (key, level), rate in estimates.items()
                if key == metric.key and level is not None
            }
            for metric in LEVEL_METRICS
        },
    )
