"""Every metric of the registry with its interval over samples; see :mod:`.intervals`.

Cost: samples with the same flags are one row of a small table (a few hundred rows for seven
levels), and a bootstrap draw is a multinomial over that table. This is the bootstrap over samples
itself, not an approximation, and does not depend on the order of the samples. Samples in clusters
are drawn by cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from sekd.analysis.estimates import Difference, Estimate, MetricValues, Rate
from sekd.analysis.intervals import (
    DifferingPairs,
    clustered_interval,
    mean_interval,
    proportion_interval,
    widen_difference,
)
from sekd.analysis.metrics import LEVEL_METRICS, PATH_METRICS, PathFlags, SampleValues
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import BoolArray, FloatArray, IntArray

_MAX_COUNTS = 1 << 22  # counts of drawn samples in memory at a time

_Key: TypeAlias = tuple[str, int | None]
"""A metric and its level; the level is ``None`` for a metric of whole paths."""


class _Term(NamedTuple):
    """A metric at one level: the mean of ``values`` over the samples that count; both are [R]."""

    values: SampleValues
    counts: BoolArray


class _Kinds(NamedTuple):
    """The kinds of samples: those with the same flags.

    Attributes:
        first: int64[R], a sample of each kind.
        counts: int64[R], the number of samples of each kind.
        of_sample: int64[N], the kind of each sample.
    """

    first: IntArray
    counts: IntArray
    of_sample: IntArray


class _Sums(NamedTuple):
    """Sums over units that are drawn together: kinds of samples, or clusters.

    Attributes:
        summands: float64[U, 2T], of T terms: sums of the values, then the numbers of samples.
        weights: int64[U], how often each unit is there.
    """

    summands: FloatArray
    weights: IntArray


def compute_metrics(outcomes: Outcomes, *, alpha: float = 0.95) -> MetricValues[Estimate]:
    """Compute every metric of the registry.

    Args:
        alpha: weight of the last level in DWPA, 0 to 1. The paper does not give it.

    Returns:
        Rates in percent; ``None`` for a metric that no sample counts towards. Levels start at the
        first scored one, those of the conditional metrics at the second.

    Raises:
        ValueError: if there is no sample, or an argument is out of range.
    """
    _check_arguments(len(outcomes), alpha)
    kinds = _distinct_rows(outcomes.stacked_flags())
    terms = _metric_terms(outcomes.flags(kinds.first, alpha), outcomes.first_level)
    estimates = {key: _estimate_rate(term, kinds, outcomes.clusters) for key, term in terms.items()}
    return _to_metric_values(len(outcomes), estimates)


def compute_differences(
    a: Outcomes, b: Outcomes, *, alpha: float = 0.95, num_bootstrap: int = 1000, seed: int = 0
) -> MetricValues[Difference]:
    """Compute ``a - b`` for every metric of the registry, over the same samples.

    A bootstrap draw takes a sample with both of its outcomes, so that what makes a sample hard for
    both does not widen the interval. All metrics share their draws. A draw that holds no sample of
    a metric says nothing about it and is left out of its interval.

    Args:
        a: N samples. Where they come in clusters, whole clusters are drawn.
        b: the same samples in the same order.
        alpha: as for :func:`compute_metrics`.
        num_bootstrap: number of draws behind each interval, at least 1.
        seed: seed of the draws; the same outcomes and seed give the same result.

    Returns:
        The two values in percent, and their difference with its interval in percentage points;
        ``None`` for a metric that no sample of one side counts towards.

    Raises:
        ValueError: if the samples have different levels, and as :func:`compute_metrics`.
    """
    _check_arguments(len(a), alpha)
    if num_bootstrap < 1:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; give at least 1")
    if a.first_level != b.first_level or not np.array_equal(a.num_levels, b.num_levels):
        raise ValueError("the samples of a and b do not have the same levels")
    kinds = _distinct_rows(np.column_stack([a.stacked_flags(), b.stacked_flags()]))
    terms_a = _metric_terms(a.flags(kinds.first, alpha), a.first_level)
    terms_b = _metric_terms(b.flags(kinds.first, alpha), b.first_level)
    units = _sum_units([*terms_a.values(), *terms_b.values()], kinds, a.clusters)
    sums, totals = _draw_sums(units, num_bootstrap, seed)
    num_terms = len(terms_a)
    estimates = {
        key: _estimate_difference(
            sums[:, [column, num_terms + column]],
            totals[:, [column, num_terms + column]],
            _differing_pairs(terms_a[key], terms_b[key], kinds.counts)
            if a.clusters is None
            else None,
        )
        for column, key in enumerate(terms_a)
    }
    return _to_metric_values(len(a), estimates)


def _check_arguments(num_samples: int, alpha: float) -> None:
    if num_samples == 0:
        raise ValueError("there are no samples to score; check the split and the filters")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; give 0 to 1")


def _distinct_rows(flags: BoolArray) -> _Kinds:
    """Find the kinds of rows."""
    packed = np.packbits(flags, axis=1)
    padded = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    # As one number or as opaque bytes: `np.unique(axis=0)` goes field by field, and far longer.
    if padded.shape[1] == 8:
        rows = padded.view(">u8")[:, 0].astype("u8")
    else:
        rows = padded.view(f"V{padded.shape[1]}")[:, 0]
    _, first, of_sample, counts = np.unique(
        rows, return_index=True, return_inverse=True, return_counts=True
    )
    return _Kinds(first, counts, of_sample.reshape(-1))


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


def _sum_units(terms: Sequence[_Term], kinds: _Kinds, clusters: IntArray | None) -> _Sums:
    """Sum the values and the samples of each term over each unit that is drawn as a whole."""
    values = np.stack([term.values for term in terms], axis=1)
    is_counted = np.stack([term.counts for term in terms], axis=1)
    summands = np.hstack([np.where(is_counted, values, 0.0), is_counted])
    if clusters is None:
        return _Sums(summands, kinds.counts)
    by_cluster = [np.bincount(clusters, column[kinds.of_sample]) for column in summands.T]
    return _Sums(np.stack(by_cluster, axis=1), np.ones(len(by_cluster[0]), dtype=np.int64))


def _draw_sums(units: _Sums, num_bootstrap: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Sum the values and the samples of each term, over the data and over each bootstrap draw.

    Returns:
        Two arrays float64[1 + num_bootstrap, T], whose first row is that of the data.
    """
    summands, weights = units
    rng = np.random.default_rng(seed)
    num_units = weights.sum()
    sums = [weights[None] @ summands]
    draws_at_a_time = max(1, _MAX_COUNTS // len(weights))
    for start in range(0, num_bootstrap, draws_at_a_time):
        size = min(draws_at_a_time, num_bootstrap - start)
        sums.append(rng.multinomial(num_units, weights / num_units, size) @ summands)
    value_sums, num_counted = np.hsplit(np.concatenate(sums), 2)
    return value_sums, num_counted


def _estimate_rate(term: _Term, kinds: _Kinds, clusters: IntArray | None) -> Estimate | None:
    """Return a rate in percent with the interval that its values and clusters ask for."""
    weights = np.where(term.counts, kinds.counts, 0)
    num = weights.sum()
    if num == 0:
        return None
    total = weights @ term.values
    mean = np.array([total / num])
    if clusters is not None:
        low, high = _clustered_ends(term, kinds, clusters, mean)
    elif _is_zero_or_one(term.values):
        low, high = proportion_interval(np.array([total]), np.array([num]))
    else:
        variance = np.maximum(weights @ np.square(term.values) / num - mean**2, 0)
        low, high = mean_interval(mean, variance, np.array([float(num)]))
    return Estimate(float(100 * total / num), float(100 * low[0]), float(100 * high[0]), int(num))


def _is_zero_or_one(values: SampleValues) -> bool:
    """Tell whether a mean of these values is a proportion."""
    return bool(values.dtype == np.bool_ or np.isin(values, (0, 1)).all())


def _clustered_ends(
    term: _Term, kinds: _Kinds, clusters: IntArray, mean: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the ends of a rate by the variance between clusters (a ratio of their sums)."""
    value_sums, num_counted = np.hsplit(_sum_units([term], kinds, clusters).summands, 2)
    num_clusters = np.array([(num_counted > 0).sum()])
    residuals = value_sums - mean * num_counted
    correction = num_clusters / np.maximum(num_clusters - 1, 1)
    variance = correction * np.square(residuals).sum() / num_counted.sum() ** 2
    return clustered_interval(mean, variance, num_clusters)


def _differing_pairs(a: _Term, b: _Term, counts: IntArray) -> DifferingPairs | None:
    """Count the pairs that differ; ``None`` where other samples count towards a than towards b."""
    if not np.array_equal(a.counts, b.counts):
        return None
    weights = np.where(a.counts, counts, 0)
    difference = a.values.astype(np.float64) - b.values
    return DifferingPairs(
        higher=int(weights[difference > 0].sum()),
        lower=int(weights[difference < 0].sum()),
        num=int(weights.sum()),
        is_proportion=_is_zero_or_one(a.values) and _is_zero_or_one(b.values),
    )


def _estimate_difference(
    sums: FloatArray, totals: FloatArray, pairs: DifferingPairs | None
) -> Difference | None:
    """Divide two columns, float64[1 + num_bootstrap, 2], and subtract the second rate.

    Args:
        pairs: ``None`` where the samples are not independent pairs.
    """
    if not totals[0].all():
        return None
    is_drawn = totals.all(axis=1)
    rates = 100 * sums[is_drawn] / totals[is_drawn]
    value, *draws = rates[:, 0] - rates[:, 1]
    low, high = np.percentile(draws, (2.5, 97.5)) if draws else (-100.0, 100.0)
    num = int(totals[0].min())
    if pairs is None and low == high:
        pairs = DifferingPairs(0, 0, num, is_proportion=False)
    if pairs is not None:
        low, high = (100 * end for end in widen_difference(low / 100, high / 100, pairs))
    a, b = rates[0]
    return Difference(float(value), float(low), float(high), num, a=float(a), b=float(b))


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
