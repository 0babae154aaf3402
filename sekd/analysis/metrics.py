"""The registry of metrics: each hierarchical metric is declared here, and only here.

A metric is the mean of a value over the samples that count, in percent. The formulas below use:

- ``c_j``: 1 where the j-th scored level of a sample is right, else 0.
- ``L``: the number of scored levels of the sample.

Level 1 is the first one below the root. The root, level 0, is left out unless a caller scores it.
A level that could not be parsed is not right: it stays in the denominator of every accuracy, and it
is not a guess.

To add a metric, add its declaration to :data:`PATH_METRICS` or :data:`LEVEL_METRICS`. It is then
computed with its interval, written to ``metrics.json``, printed by ``sekd score``, and
shown and explained in the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sekd.analysis.paths import BoolArray, IntArray

SampleValues: TypeAlias = NDArray[Any]
"""bool or float64, 0 to 1: [N] for a metric of the whole path, [N, L] for a metric by level."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PathFlags:
    """The input of the formulas: N samples with up to L levels.

    Attributes:
        correct: bool[N, L]: the level is right; False past a sample's last level.
        scored: bool[N, L]: the sample has this level.
        unparsed: bool[N]: at least one level could not be parsed.
        off_tree: bool[N]: the predicted path has a parent-child edge that the taxonomy lacks.
        alpha: weight of the last level in DWPA, 0 to 1.
    """

    correct: BoolArray
    scored: BoolArray
    unparsed: BoolArray
    off_tree: BoolArray
    alpha: float

    @cached_property
    def num_levels(self) -> IntArray:
        """int64[N]: ``L`` of each sample."""
        return np.asarray(self.scored.sum(axis=1))

    @cached_property
    def num_inner_levels(self) -> IntArray:
        """int64[N]: ``L - 1``, but 1 where there is a single level, so that it can be a divisor."""
        return np.maximum(self.num_levels - 1, 1)

    @cached_property
    def prefix_length(self) -> IntArray:
        """int64[N]: the number of right levels before the first wrong one."""
        return np.asarray(np.logical_and.accumulate(self.correct, axis=1).sum(axis=1))

    @cached_property
    def all_correct(self) -> BoolArray:
        """bool[N]: every level is right."""
        return np.asarray(self.prefix_length == self.num_levels)

    @cached_property
    def parent_correct(self) -> BoolArray:
        """bool[N, L]: the level above is right; False at the first scored level."""
        shifted = np.zeros_like(self.correct)
        shifted[:, 1:] = self.correct[:, :-1]
        return shifted


def _every_sample(flags: PathFlags) -> BoolArray:
    return np.ones(len(flags.correct), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: the mean of ``value`` over the samples that count, in percent.

    Attributes:
        key: its name in ``metrics.json`` and in tables for machines.
        title: its name for a person.
        definition: one sentence for a reader of the report.
        value: returns values from 0 to 1.
        counts: returns True where the sample is in the mean.
        higher_is_better: False where a lower rate is better.
    """

    key: str
    title: str
    definition: str
    value: Callable[[PathFlags], SampleValues]
    counts: Callable[[PathFlags], BoolArray]
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class PathMetric(Metric):
    """A metric of whole paths: ``value`` and ``counts`` return [N]."""

    counts: Callable[[PathFlags], BoolArray] = _every_sample


@dataclass(frozen=True, kw_only=True)
class LevelMetric(Metric):
    """A metric of each level: ``value`` and ``counts`` return [N, L].

    Attributes:
        needs_parent: the first scored level, whose parent is not scored, has no such rate.
    """

    needs_parent: bool = False


def _leaf_correct(flags: PathFlags) -> BoolArray:
    """``c_L``."""
    return np.asarray(flags.correct[np.arange(len(flags.correct)), flags.num_levels - 1])


def _share_of_levels(flags: PathFlags) -> SampleValues:
    """``sum_j c_j / L``."""
    return np.asarray(flags.correct.sum(axis=1) / flags.num_levels)


def _share_of_pairs(flags: PathFlags) -> SampleValues:
    """``sum_j c_j c_(j+1) / (L - 1)``; 0 where L = 1."""
    num_pairs = (flags.correct[:, 1:] & flags.correct[:, :-1]).sum(axis=1)
    return np.asarray(num_pairs / flags.num_inner_levels)


def _longest_run(flags: PathFlags) -> SampleValues:
    """Length of the longest run of right levels, anywhere in the path, divided by L."""
    run = longest = np.zeros(len(flags.correct), dtype=np.int64)
    for is_correct in flags.correct.T:
        run = (run + 1) * is_correct
        longest = np.maximum(longest, run)
    return np.asarray(longest / flags.num_levels)


def _weighted_prefix(flags: PathFlags) -> SampleValues:
    """``sum_l w_l [levels 1 to l are right]``.

    ``w_L`` is alpha (1 where L = 1), and each of the other weights is ``(1 - alpha) / (L - 1)``.
    The exact weights in the v2 paper are not public; these are ours.
    """
    inner = np.minimum(flags.prefix_length, flags.num_levels - 1) / flags.num_inner_levels
    weighted = flags.alpha * flags.all_correct + (1 - flags.alpha) * inner
    return np.where(flags.num_levels == 1, flags.all_correct, weighted)


PATH_METRICS: tuple[PathMetric, ...] = (
    PathMetric(
        key="hca",
        title="HCA",
        definition="The share of images for which every level is right.",
        value=lambda flags: flags.all_correct,
    ),
    PathMetric(
        key="leaf_accuracy",
        title="leaf",
        definition="The share of images for which the deepest level is right.",
        value=_leaf_correct,
    ),
    PathMetric(
        key="por",
        title="POR",
        definition="The share of levels that are right, as a mean over images.",
        value=_share_of_levels,
    ),
    PathMetric(
        key="tor",
        title="TOR",
        definition="The share of neighbouring pairs of levels of which both are right.",
        value=_share_of_pairs,
    ),
    PathMetric(
        key="spor_prefix",
        title="S-POR prefix",
        definition="The length of the right prefix as a share of all levels.",
        value=lambda flags: flags.prefix_length / flags.num_levels,
    ),
    PathMetric(
        key="spor_run",
        title="S-POR run",
        definition="The length of the longest run of right levels as a share of all levels.",
        value=_longest_run,
    ),
    PathMetric(
        key="dwpa",
        title="DWPA",
        definition="Right prefixes, weighted towards the whole path (the paper does not give "
        "the weights).",
        value=_weighted_prefix,
    ),
    PathMetric(
        key="parse_failure_rate",
        title="unparsed",
        definition="The share of images with an answer that could not be parsed; such an answer "
        "never counts as a guess.",
        value=lambda flags: flags.unparsed,
        higher_is_better=False,
    ),
    # Samples with a level that could not be parsed have no whole path, and do not count. A name
    # that the taxonomy does not have makes an edge that it lacks.
    PathMetric(
        key="tice",
        title="TICE",
        definition="The share of fully answered paths with an edge that the taxonomy does not "
        "have.",
        value=lambda flags: flags.off_tree,
        counts=lambda flags: ~flags.unparsed,
        higher_is_better=False,
    ),
)
"""Metrics of whole paths, in the order of ``metrics.json``."""

LEVEL_METRICS: tuple[LevelMetric, ...] = (
    LevelMetric(
        key="level_accuracy",
        title="accuracy",
        definition="The share of right answers at a level, over the images that have the level.",
        value=lambda flags: flags.correct,
        counts=lambda flags: flags.scored,
    ),
    LevelMetric(
        key="accuracy_given_parent_correct",
        title="parent right",
        definition="The accuracy at a level, over the images whose level above is right.",
        value=lambda flags: flags.correct,
        counts=lambda flags: flags.scored & flags.parent_correct,
        needs_parent=True,
    ),
    LevelMetric(
        key="accuracy_given_parent_wrong",
        title="parent wrong",
        definition="The accuracy at a level, over the images whose level above is wrong.",
        value=lambda flags: flags.correct,
        counts=lambda flags: flags.scored & ~flags.parent_correct,
        needs_parent=True,
    ),
)
"""Metrics by level, in the order of ``metrics.json``."""
