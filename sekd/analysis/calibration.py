"""Compare the confidence of a model's answers with how often they are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.paths import BoolArray, FloatArray
from sekd.io.columns import encode_column

NUM_BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of like confidence, in percent.

    Attributes:
        low, high: ends of the bin.
        count: the number of answers.
        confidence, accuracy: means over the answers; ``None`` where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy of some answers, in percent.

    Attributes:
        ece: the expected calibration error (Guo et al., arXiv 1706.04599): the mean of
            |confidence - accuracy| over the bins, weighted by their answers.
        bins: 15 bins of equal width, open at their lower end.
    """

    num_answers: int
    confidence: float
    accuracy: float
    ece: float
    bins: Sequence[ReliabilityBin]

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``calibration`` in ``metrics.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_json` returns."""
        bins = [ReliabilityBin(**each) for each in content["bins"]]
        return cls(**{**content, "bins": bins})


@dataclass(frozen=True)
class CellCalibration:
    """The calibration of one cell, over all of its answers and by level."""

    all: Calibration
    levels: Mapping[int, Calibration]

    def to_json(self) -> dict[str, Any]:
        """Return ``{"all": ..., "1": ..., ...}``."""
        return {
            "all": self.all.to_json(),
            **{str(level): calibration.to_json() for level, calibration in self.levels.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CellCalibration:
        """Read what :meth:`to_json` returns."""
        parsed = {name: Calibration.from_json(entry) for name, entry in content.items()}
        overall = parsed.pop("all")
        return cls(overall, {int(level): calibration for level, calibration in parsed.items()})


def measure_calibration(rows: pa.Table) -> CellCalibration | None:
    """Compare the probability of each predicted option with how often it is right.

    A prediction's confidence is its probability among the options shown; where the paradigm gives
    whole paths, it is the probability of the path down to the prediction. Left out are answers
    without log-probabilities (joint replies without a letter that could be found), answers without
    a prediction, answers whose log-probabilities are no numbers, and levels with one option, which
    nobody can get wrong.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, of one cell.

    Returns:
        ``None`` where no answer is left.
    """
    rows = rows.filter(pc.field("prediction").is_valid())
    if not len(rows):
        return None
    confidence = confidences(rows)
    num_options = pc.list_value_length(rows["options"]).to_numpy()
    is_known = ~np.isnan(confidence) & (num_options != 1)
    if not is_known.any():
        return None
    confidence = confidence[is_known]
    levels = rows["level"].to_numpy()[is_known]
    is_right = pc.equal(rows["prediction"], rows["truth"]).to_numpy()[is_known]
    return CellCalibration(
        calibration_of(confidence, is_right),
        {
            level: calibration_of(confidence[levels == level], is_right[levels == level])
            for level in np.unique(levels).tolist()
        },
    )


def confidences(rows: pa.Table) -> FloatArray:
    """float64[R]: the probability that the model gave each prediction; NaN where it is not known.

    That is the probability of the path down to the prediction where the paradigm gives whole paths,
    else that of the prediction among the options.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, of one cell.

    Raises:
        ValueError: if a question has other numbers of options and of log-probabilities.
    """
    confidence = np.full(len(rows), np.nan)
    has_logprobs = pc.is_valid(rows["option_logprobs"]).to_numpy()
    confidence[has_logprobs] = _option_shares(rows.filter(pa.array(has_logprobs)))
    if "path_logprob" in rows.column_names:
        path_logprobs = rows["path_logprob"].to_numpy().astype(np.float64)
        confidence = np.where(np.isnan(path_logprobs), confidence, np.exp(path_logprobs))
    return confidence


def _option_shares(rows: pa.Table) -> FloatArray:
    """float64[R]: probability of the prediction among the options; NaN where it is not known."""
    lengths = pc.list_value_length(rows["option_logprobs"]).to_numpy().astype(np.int64)
    num_options = pc.list_value_length(rows["options"]).to_numpy()
    confidence = np.full(len(rows), np.nan)
    if (lengths != num_options).any():
        row = int(np.flatnonzero(lengths != num_options)[0])
        raise ValueError(
            f"sample {rows['sample_id'][row].as_py()!r}, level {rows['level'][row].as_py()}: "
            f"{lengths[row]} log-probabilities of {num_options[row]} options"
        )
    with_options = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[with_options]
    logprobs = pc.list_flatten(rows["option_logprobs"]).to_numpy().astype(np.float64)
    options, option_ids = encode_column(pc.list_flatten(rows["options"]))
    predicted, predicted_ids = encode_column(rows["prediction"])
    predicted_options = pc.index_in(predicted_ids, option_ids).fill_null(-1).to_numpy()[predicted]
    is_chosen = options == np.repeat(predicted_options, lengths)
    with np.errstate(invalid="ignore"):  # infinities, whose rows stay NaN
        highest = np.repeat(np.maximum.reduceat(logprobs, starts), lengths[with_options])
        weights = np.exp(logprobs - highest)
    chosen = np.add.reduceat(np.where(is_chosen, weights, 0.0), starts)
    is_offered_once = np.add.reduceat(is_chosen.astype(np.int64), starts) == 1
    shares = chosen / np.add.reduceat(weights, starts)
    confidence[with_options[is_offered_once]] = shares[is_offered_once]
    return confidence


def calibration_of(confidence: FloatArray, is_right: BoolArray) -> Calibration:
    """Compare confidences, 0 to 1, with whether the answers are right; there is at least one."""
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    divisors = np.maximum(counts, 1)
    mean_confidence = 100 * np.bincount(bins, confidence, NUM_BINS) / divisors
    accuracy = 100 * np.bincount(bins, is_right, NUM_BINS) / divisors
    return Calibration(
        num_answers=len(confidence),
        confidence=float(100 * confidence.mean()),
        accuracy=float(100 * is_right.mean()),
        ece=float((counts * np.abs(mean_confidence - accuracy)).sum() / len(confidence)),
        bins=[
            ReliabilityBin(
                low=100 * number / NUM_BINS,
                high=100 * (number + 1) / NUM_BINS,
                count=count,
                confidence=float(mean_confidence[number]) if count else None,
                accuracy=float(accuracy[number]) if count else None,
            )
            for number, count in enumerate(counts.tolist())
        ],
    )
