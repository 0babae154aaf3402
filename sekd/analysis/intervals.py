"""95 % intervals of rates and of paired differences, and tests beside them.

**Rates** are means of values between 0 and 1. Their interval is Wilson's (1927), which stays inside
0 to 1 and has a width also where every sample is right. For a mean of values other than 0 and 1 it
is taken at the *effective* number of samples: the number that would give a proportion the variance
that the values have. Proportions with one to three right or wrong samples get the Poisson limits of
Brown, Cai and DasGupta (Statistical Science 16, 2001), without which Wilson's interval is too short
there. The percentile bootstrap is not used for rates: near 0 and 100 % it draws the same values
again and again, and covers the truth in 52 % of the cases instead of 95 %.

**Differences** have no such formula, and get the percentile bootstrap over pairs, widened where too
few pairs differ for a bootstrap to know (:func:`widen_difference`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sekd.analysis.paths import FloatArray, IntArray

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
_TAIL = 0.025
_POISSON_LOWER = (0.0, 0.05129329, 0.35536151, 0.81769145)
"""The one-sided 95 % lower limit of a Poisson mean, by the number of events, 0 to 3."""
_MAX_EXACT = 1000
_FEWEST_TELLING_PAIRS = 6
"""Five pairs that differ, all in one direction, have a two-sided probability of 1/16 by chance."""
_BISECTIONS = 50


def wilson_interval(rate: FloatArray, num: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return Wilson's interval of rates from 0 to 1; ``num`` may be a fraction, and is above 0."""
    centre = (rate + Z**2 / (2 * num)) / (1 + Z**2 / num)
    spread = np.sqrt(rate * (1 - rate) / num + Z**2 / (4 * num**2))
    half = Z / (1 + Z**2 / num) * spread
    # Rounding must leave no end inside of a rate of 0 or 1.
    low = np.where(rate == 0, 0.0, np.clip(centre - half, 0, rate))
    high = np.where(rate == 1, 1.0, np.clip(centre + half, rate, 1))
    return low, high


def proportion_interval(num_right: IntArray, num: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the interval of ``num_right`` of ``num`` samples, from 0 to 1; see the module."""
    low, high = wilson_interval(num_right / num, num.astype(np.float64))
    for count in (1, 2, 3):
        is_rare = (num > 50) | ((count < 3) & (num > 3))
        bound = np.minimum(_POISSON_LOWER[count] / num, 1)
        low = np.where(is_rare & (num_right == count), np.minimum(low, bound), low)
        high = np.where(is_rare & (num - num_right == count), np.maximum(high, 1 - bound), high)
    return low, high


def mean_interval(
    mean: FloatArray, variance: FloatArray, num: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the interval of means of values from 0 to 1.

    Args:
        mean, variance: of the values of ``num`` samples. Without any variance the values say
            nothing about their spread, and count as a proportion.
    """
    return wilson_interval(mean, effective_num(mean, variance / num, num))


def clustered_interval(
    mean: FloatArray, variance_of_mean: FloatArray, num_clusters: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return the interval of means whose samples come in clusters.

    Args:
        variance_of_mean: estimated from the sums of the clusters, with ``num_clusters - 1``
            degrees of freedom.
    """
    num = effective_num(mean, variance_of_mean, num_clusters.astype(np.float64))
    low, high = np.zeros_like(mean), np.ones_like(mean)
    is_known = num_clusters > 1
    quantile = student_quantile(np.maximum(num_clusters - 1, 1))
    scaled = num * (Z / quantile) ** 2
    known_low, known_high = wilson_interval(mean[is_known], scaled[is_known])
    low[is_known], high[is_known] = known_low, known_high
    return low, high


def effective_num(
    mean: FloatArray, variance_of_mean: FloatArray, fallback: FloatArray
) -> FloatArray:
    """Return the number of samples with which a proportion has this variance of its mean."""
    is_varied = variance_of_mean > 1e-15
    divisor = np.where(is_varied, variance_of_mean, 1)
    return np.where(is_varied, np.maximum(mean * (1 - mean), 1e-15) / divisor, fallback)


def student_quantile(degrees: IntArray) -> FloatArray:
    """Return the 97.5 % quantile of Student's t: exact for 1 and 2, else by Cornish and Fisher."""
    z, n = Z, degrees.astype(np.float64)
    series = (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )
    return np.where(degrees == 1, 12.7062047, np.where(degrees == 2, 4.30265273, series))


@dataclass(frozen=True)
class McNemarTest:
    """A test whether two models are right equally often on the same samples (McNemar, 1947).

    Only the samples that one of them alone has right count: were the two equal, each of those would
    be either's with probability 1/2.

    Attributes:
        p_value: two-sided.
        method: ``exact``: the binomial distribution, up to 1,000 such samples. ``normal``: its
            approximation with Edwards' correction for continuity.
    """

    p_value: float
    method: Literal["exact", "normal"]


def mcnemar_test(num_only_a: int, num_only_b: int) -> McNemarTest:
    """Test the numbers of samples that one model alone has right."""
    num = num_only_a + num_only_b
    smaller = min(num_only_a, num_only_b)
    if num <= _MAX_EXACT:
        tail = sum(math.comb(num, k) for k in range(smaller + 1))
        return McNemarTest(float(min(1, 2 * tail / 2**num)), "exact")
    z = max(0, abs(num_only_a - num_only_b) - 1) / math.sqrt(num)
    return McNemarTest(math.erfc(z / math.sqrt(2)), "normal")


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests, so that the chance of any false one stays 5 % (Holm).

    Returns:
        In the order of ``p_values``; each is compared with 0.05 as a single one would be.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True)
class DifferingPairs:
    """The pairs of samples in which one side has the higher value.

    Attributes:
        num: the number of all pairs.
        is_proportion: every value is 0 or 1, so that McNemar's test is about these pairs.
    """

    higher: int
    lower: int
    num: int
    is_proportion: bool


def widen_difference(low: float, high: float, pairs: DifferingPairs) -> tuple[float, float]:
    """Widen the bootstrap interval of a difference where few pairs differ.

    The bootstrap repeats the pairs that there are, and so takes four of 400 that differ in one
    direction for a certain gain. Of a proportion the interval is widened to the exact conditional
    one (Clopper and Pearson's of the share of differing pairs in which ``a`` is higher, times their
    number): it holds 0 wherever McNemar's exact test has p > 0.05. Of another mean, fewer than six
    differing pairs tell nothing, and the interval holds 0. Where no pair differs, the ends are the
    97.5 % limit of the share of pairs that could.

    Args:
        low, high: ends, as shares from -1 to 1.
    """
    num_differing = pairs.higher + pairs.lower
    if not num_differing:
        limit = 1 - _TAIL ** (1 / pairs.num)
        return min(low, -limit), max(high, limit)
    if pairs.is_proportion and num_differing <= _MAX_EXACT:
        share = num_differing / pairs.num
        ends = clopper_pearson_interval(pairs.higher, num_differing)
        return min(low, (2 * ends[0] - 1) * share), max(high, (2 * ends[1] - 1) * share)
    if num_differing < _FEWEST_TELLING_PAIRS:
        return min(low, 0.0), max(high, 0.0)
    return low, high


def clopper_pearson_interval(num_right: int, num: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a proportion: p where either tail has 2.5 %."""
    return (
        0.0 if num_right == 0 else 1 - _upper_limit(num - num_right, num),
        1.0 if num_right == num else _upper_limit(num_right, num),
    )


def _upper_limit(num_right: int, num: int) -> float:
    """Return the proportion at which ``num_right`` or fewer of ``num`` have 2.5 %, by bisection."""
    low, high = num_right / num, 1.0
    counts = np.arange(num_right + 1)
    log_choose = np.array([math.lgamma(k + 1) + math.lgamma(num - k + 1) for k in counts.tolist()])
    log_choose = math.lgamma(num + 1) - log_choose
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        logs = log_choose + counts * math.log(middle) + (num - counts) * math.log1p(-middle)
        if np.exp(logs).sum() > _TAIL:
            low = middle
        else:
            high = middle
    return (low + high) / 2
