"""Temperature scaling: probabilities that mean what they say (Guo et al., arXiv 1706.04599).

A temperature divides log-probabilities, which are then normalised again. Above 1 it makes a model
less sure, and below 1 more; the most probable child stays the same. The probability of a path is
the product of those of its nodes, each given that the nodes above it are right. So a temperature is
fitted for each level, to the children of nodes that are on the right path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.calibration import calibration_of
from sekd.analysis.paths import BoolArray, FloatArray, IntArray
from sekd.io.columns import encode_column

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures are fitted between these."""
PRIOR = 10.0
"""The number of questions that the prior of a fit is worth, see :func:`fit_temperature`."""
_FLOOR = -100.0
"""Log-probabilities of a fit are at least this, so that an impossible truth has a finite loss."""
_STEPS = 40
"""Halvings of the interval of a fit: enough for all digits of a float32."""


def scale(logprobs: FloatArray, temperature: float) -> FloatArray:
    """Apply a temperature to one distribution.

    Args:
        logprobs: [children], which need not be normalised.

    Returns:
        float64 [children], of probabilities that sum to one.
    """
    scaled = np.asarray(logprobs, dtype=np.float64) / temperature
    normalised: FloatArray = scaled - np.logaddexp.reduce(scaled)
    return normalised


@dataclass(frozen=True, eq=False)
class Choices:
    """Distributions over the children of nodes, one behind the other, and the right children.

    Attributes:
        logprobs: float64 [children of all questions].
        starts: int64 [questions]: where the children of each begin; each has some.
        truths: int64 [questions]: where the right child stands in ``logprobs``.
    """

    logprobs: FloatArray
    starts: IntArray
    truths: IntArray

    def __len__(self) -> int:
        return len(self.starts)

    def scaled(self, temperature: float) -> FloatArray:
        """float64 [children of all questions]: normalised log-probabilities at a temperature."""
        lengths = np.diff(self.starts, append=len(self.logprobs))
        return _normalised(self.logprobs / temperature, self.starts, lengths)

    def loss(self, temperature: float) -> float:
        """Return the mean negative log-likelihood of the right children, in nats."""
        return float(-self.scaled(temperature)[self.truths].mean())

    def calibration_error(self, temperature: float) -> float:
        """Return the expected calibration error of the most probable children, in percent."""
        logprobs = self.scaled(temperature)
        highest = np.maximum.reduceat(logprobs, self.starts)
        return calibration_of(np.exp(highest), logprobs[self.truths] >= highest).ece


def fit_temperature(choices: Choices) -> float:
    """Return the temperature at which the right children are most likely.

    The loss is convex in 1 / temperature, and its derivative is the mean log-probability that the
    model expects less that of the right children; the zero is found by bisection. Where few
    questions are there, or all are answered right, they alone would say too much. So a prior counts
    as much as ``PRIOR`` more questions, whose right children follow the model's own probabilities.
    The prior is not given by Guo et al.

    Returns:
        1 where there is no question; at least ``LOWEST`` and at most ``HIGHEST``.
    """
    if not len(choices):
        return 1.0
    logprobs = np.maximum(choices.logprobs, _FLOOR)
    bounded = Choices(logprobs, choices.starts, choices.truths)
    weight = PRIOR / len(choices)

    def expected(temperature: float) -> float:
        return float(np.exp(bounded.scaled(temperature)) @ logprobs)

    seen = float(logprobs[choices.truths].sum())
    goal = (seen + weight * expected(1.0)) / (1 + weight)
    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if expected(math.exp(middle)) > goal:
            low = middle  # surer than the answers are right
        else:
            high = middle
    return math.exp((low + high) / 2)


def choices_by_level(rows: pa.Table) -> dict[int, Choices]:
    """Gather the questions of each level whose right answer was among the children.

    Left out are levels with one child, which nobody can get wrong, and those below a wrong answer.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, of one cell of a paradigm that
            gives whole paths.
    """
    flat = _Flat.of(rows)
    is_truth = flat.matches(rows, "truth")
    has_truth = np.zeros(len(rows), dtype=bool)
    has_truth[flat.row[is_truth]] = True
    levels = rows["level"].to_numpy()
    choices = {}
    for level in np.unique(levels).tolist():
        is_used = has_truth & (flat.lengths > 1) & (levels == level)
        if is_used.any():
            kept = is_used[flat.row]
            lengths = flat.lengths[is_used]
            choices[level] = Choices(
                flat.logprobs[kept], np.cumsum(lengths) - lengths, np.flatnonzero(is_truth[kept])
            )
    return choices


def apply_temperatures(rows: pa.Table, temperatures: Mapping[int, float]) -> pa.Table:
    """Return rows as they would be at these temperatures; other levels stay as they are.

    Args:
        rows: as in :func:`choices_by_level`.
        temperatures: level -> temperature.
    """
    flat = _Flat.of(rows)
    divisors = np.array([temperatures.get(level, 1.0) for level in rows["level"].to_pylist()])
    is_used = flat.lengths > 0
    starts = flat.starts[is_used]
    logprobs = _normalised(flat.logprobs / divisors[flat.row], starts, flat.lengths[is_used])
    chosen = np.zeros(len(rows))
    is_chosen = flat.matches(rows, "prediction")
    chosen[flat.row[is_chosen]] = logprobs[is_chosen]
    option_logprobs = pa.ListArray.from_arrays(
        pa.array(np.append(flat.starts, len(logprobs)).astype(np.int32)),
        pa.array(logprobs.astype(np.float32)),
        mask=rows["option_logprobs"].combine_chunks().is_null(),
    )
    path_logprobs = pa.array(_sums_down_paths(rows, chosen), pa.float32())
    known = rows["path_logprob"].combine_chunks()
    path_logprobs = pc.if_else(known.is_valid(), path_logprobs, known)
    for name, column in (("option_logprobs", option_logprobs), ("path_logprob", path_logprobs)):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), column)
    return rows


@dataclass(frozen=True, eq=False)
class _Flat:
    """The children of all rows, one behind the other; rows without log-probabilities have none.

    Attributes:
        row: int64 [children]: the row of each.
        starts, lengths: int64 [rows].
    """

    logprobs: FloatArray
    options: pa.ChunkedArray
    row: IntArray
    starts: IntArray
    lengths: IntArray

    @classmethod
    def of(cls, rows: pa.Table) -> _Flat:
        column = rows["option_logprobs"]
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        has_options = rows.filter(pa.array(lengths > 0))
        logprobs = pc.list_flatten(has_options["option_logprobs"]).to_numpy().astype(np.float64)
        options = pc.list_flatten(has_options["options"])
        row = np.repeat(np.arange(len(rows)), lengths)
        return cls(logprobs, options, row, np.cumsum(lengths) - lengths, lengths)

    def matches(self, rows: pa.Table, name: str) -> BoolArray:
        """bool [children]: whether a child is the node in that column of its row."""
        options, option_ids = encode_column(self.options)
        wanted, wanted_ids = encode_column(rows[name])
        # An additional number at the end stands for no node.
        as_options = pc.index_in(wanted_ids, option_ids).fill_null(-1).to_numpy()
        found = np.append(as_options, -1)[wanted]
        is_match: BoolArray = options == found[self.row]
        return is_match


def _normalised(logprobs: FloatArray, starts: IntArray, lengths: IntArray) -> FloatArray:
    """Normalise each of several distributions, which stand one behind the other."""
    if not len(starts):
        return logprobs
    highest = np.repeat(np.maximum.reduceat(logprobs, starts), lengths)
    sums = np.add.reduceat(np.exp(logprobs - highest), starts)
    normalised: FloatArray = logprobs - highest - np.repeat(np.log(sums), lengths)
    return normalised


def _sums_down_paths(rows: pa.Table, chosen: FloatArray) -> FloatArray:
    """float64 [rows]: sums of log-probabilities from the first level of each path to the row's."""
    sample, _ = encode_column(rows["sample_id"])
    rotation, level = rows["rotation"].to_numpy(), rows["level"].to_numpy()
    order = np.lexsort((level, rotation, sample))
    sums = np.cumsum(chosen[order])
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (np.diff(sample[order]) != 0) | (np.diff(rotation[order]) != 0)
    before = (sums - chosen[order])[is_first]
    result = np.empty(len(rows))
    result[order] = sums - before[np.cumsum(is_first) - 1]
    return result
