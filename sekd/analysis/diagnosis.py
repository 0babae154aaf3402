"""Why a score is what it is: where paths break, what is taken for what, how sure; who differs.

Everything is ready for JSON (docs/formats.md, metrics.json): shares in percent, levels as text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sekd.analysis.breakdown import confusions, node_fields
from sekd.analysis.metrics import FloatArray, Outcomes, score_difference
from sekd.analysis.paths import NOT_PARSED, BoolArray, IntArray, Paths, paths_of
from sekd.data.taxonomy import Taxonomy
from sekd.io.columns import encode_column

NUM_BINS = 15
_NUM_PAIRS = 20
_MAX_EXACT = 1000
_NUM_NAMED = 3


def diagnose(rows: pa.Table, taxonomy: Taxonomy) -> dict[str, Any]:
    """Diagnose one cell: one model, dataset and paradigm.

    Args:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`, in any order.

    Returns:
        - ``num_samples``
        - ``first_error``: by level, and "none", ``{"count", "share"}`` of the samples whose first
          answer that is not right is there.
        - ``subtrees``: ``[{"truth", "prediction", "count"}, ...]`` of the samples by the node of
          level 1 that they belong and are sent to, right ones included; ``prediction`` is null
          where it could not be parsed.
        - ``most_confused``: the 20 most frequent pairs of a right and a wrong node, at any level:
          ``[{"level", "truth", "truth_name", "prediction", "prediction_name", "count", "share"},
          ...]``; the share is of the answers with that truth.
        - ``calibration``: see :func:`calibrate`; null where no answer has log-probabilities.

    Raises:
        ValueError: if a sample has a level twice or lacks one, or an id is no node.
    """
    paths = paths_of(rows, taxonomy)
    return {
        "num_samples": len(paths),
        "first_error": _first_error(paths),
        "subtrees": _subtree_matrix(paths),
        "most_confused": _most_confused(paths),
        "calibration": calibrate(rows),
    }


def calibrate(rows: pa.Table) -> dict[str, Any] | None:
    """Hold the probability of each predicted option against how often it is right.

    A prediction's confidence is its probability among the options shown. The expected calibration
    error (Guo et al., arXiv 1706.04599) is the mean of |confidence - accuracy| over 15 bins of
    equal width, open at their lower end, weighted by their answers. Answers without
    log-probabilities (the joint paradigm's), without a prediction or whose log-probabilities are no
    numbers are left out.

    Returns:
        By level, and "all", ``{"num_answers", "confidence", "accuracy", "ece", "bins"}``; a bin is
        ``{"low", "high", "count", "confidence", "accuracy"}``, the last two null where it is empty.
    """
    rows = rows.filter(pc.field("option_logprobs").is_valid() & pc.field("prediction").is_valid())
    if not len(rows):
        return None
    confidence = _confidence(rows)
    is_known = ~np.isnan(confidence)
    confidence = confidence[is_known]
    levels = rows["level"].to_numpy()[is_known]
    is_right = pc.equal(rows["prediction"], rows["truth"]).to_numpy()[is_known]
    if not len(confidence):
        return None
    return {
        "all": _reliability(confidence, is_right),
        **{
            str(level): _reliability(confidence[levels == level], is_right[levels == level])
            for level in np.unique(levels).tolist()
        },
    }


def compare_predictions(
    a: pa.Table,
    b: pa.Table,
    taxonomy: Taxonomy,
    *,
    num_bootstrap: int,
    seed: int,
    alpha: float = 0.95,
) -> dict[str, Any]:
    """Say where two cells of one dataset differ, over the samples that both have.

    Args:
        a: rows of one model and paradigm, such as the student's joint ones.
        b: of another, such as its teacher's: the base's conditioned ones.
        num_bootstrap: draws behind each interval.
        seed: of the draws.
        alpha: of ``dwpa``.

    Returns:
        See :func:`compare_paths`.

    Raises:
        ValueError: as that, and as :func:`sekd.analysis.paths.paths_of`.
    """
    return compare_paths(
        paths_of(a, taxonomy),
        paths_of(b, taxonomy),
        num_bootstrap=num_bootstrap,
        seed=seed,
        alpha=alpha,
    )


def compare_paths(
    a: Paths, b: Paths, *, num_bootstrap: int, seed: int, alpha: float = 0.95
) -> dict[str, Any]:
    """Compare as :func:`compare` does.

    Returns:
        - ``num_samples``, that both have; ``num_only_in_a`` and ``num_only_in_b``, left out.
        - ``differences``: see :func:`sekd.analysis.metrics.score_difference`.
        - ``agreement``: for ``hca``, ``leaf_accuracy`` and, by level, ``level_accuracy`` the
          samples that both, one or none have right: ``{"num_samples", "num_both_right",
          "num_only_a", "num_only_b", "num_both_wrong", "both_right", "only_a", "only_b",
          "both_wrong", "mcnemar": {"p_value", "method"}}``, see :func:`mcnemar`.

    Raises:
        ValueError: if no sample is in both, or one has another truth in ``b``.
    """
    num_in_a, num_in_b = len(a), len(b)
    a, b = over_shared(a, b)
    agreement = {
        "hca": _agreement(a.whole_is_right, b.whole_is_right),
        "leaf_accuracy": _agreement(a.leaf_is_right, b.leaf_is_right),
        "level_accuracy": {
            str(a.first_level + column): _agreement(
                a.correct[has_level, column], b.correct[has_level, column]
            )
            for column, has_level in enumerate(a.scored.T)
        },
    }
    return {
        "num_samples": len(a),
        "num_only_in_a": num_in_a - len(a),
        "num_only_in_b": num_in_b - len(a),
        "differences": score_difference(
            Outcomes.of(a), Outcomes.of(b), alpha=alpha, num_bootstrap=num_bootstrap, seed=seed
        ),
        "agreement": agreement,
    }


def over_shared(a: Paths, b: Paths) -> tuple[Paths, Paths]:
    """Both, over the samples that both have, in the order of ``a``.

    Raises:
        ValueError: if no sample is in both, or one has another truth in ``b``.
    """
    places = pc.index_in(a.sample_ids, b.sample_ids)
    in_a = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    if not len(in_a):
        raise ValueError("no sample is in both a and b")
    in_b = places.drop_null().to_numpy().astype(np.int64)
    a, b = a.take(in_a), b.take(in_b)
    _refuse_other_truths(a, b)
    return a, b


def only_in(a: Paths, b: Paths) -> Sequence[str]:
    """Ids of the samples that ``a`` has and ``b`` has not."""
    is_shared = pc.is_in(a.sample_ids, b.sample_ids)
    ids: list[str] = a.sample_ids.filter(pc.invert(is_shared)).to_pylist()
    return ids


def mcnemar(num_only_a: int, num_only_b: int) -> dict[str, Any]:
    """Test whether two models are right equally often on the same samples (McNemar, 1947).

    Only the samples that one of them has right count: were the two equal, each of those would be
    either's with probability 1/2.

    Returns:
        ``{"p_value", "method"}``, two-sided. ``exact``: the binomial distribution, up to 1,000 such
        samples. ``normal``: its approximation with Edwards' correction for continuity.
    """
    num = num_only_a + num_only_b
    smaller = min(num_only_a, num_only_b)
    if num <= _MAX_EXACT:
        tail = sum(math.comb(num, k) for k in range(smaller + 1))
        return {"p_value": float(min(1, 2 * tail / 2**num)), "method": "exact"}
    z = max(0, abs(num_only_a - num_only_b) - 1) / math.sqrt(num)
    return {"p_value": math.erfc(z / math.sqrt(2)), "method": "normal"}


def _first_error(paths: Paths) -> dict[str, Any]:
    is_wrong = paths.scored & ~paths.correct
    num_columns = is_wrong.shape[1]
    first = np.where(is_wrong.any(axis=1), np.argmax(is_wrong, axis=1), num_columns)
    counts = np.bincount(first, minlength=num_columns + 1).tolist()
    names = [str(paths.first_level + column) for column in range(num_columns)]
    return {
        name: {"count": count, "share": 100 * count / len(paths)}
        for name, count in zip([*names, "none"], counts, strict=True)
    }


def _subtree_matrix(paths: Paths) -> list[dict[str, Any]]:
    nodes, num_nodes = paths.nodes.nodes, len(paths.nodes.nodes) + 1
    prediction = paths.prediction[:, 0]
    keys = paths.truth[:, 0].astype(np.int64) * num_nodes + np.maximum(prediction, NOT_PARSED) + 1
    pairs, counts = np.unique(keys, return_counts=True)
    cells = []
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        truth, place = divmod(pair, num_nodes)
        prediction_id = nodes[place - 1].id if place else None
        cells.append({"truth": nodes[truth].id, "prediction": prediction_id, "count": count})
    return cells


def _most_confused(paths: Paths) -> list[dict[str, Any]]:
    counts = np.bincount(paths.truth[paths.scored], minlength=len(paths.nodes.nodes))
    pairs = zip(*confusions(paths).by_count(), strict=True)
    result = []
    for (truth, prediction, count), _ in zip(pairs, range(_NUM_PAIRS), strict=False):
        right, wrong = node_fields(paths.nodes, truth), node_fields(paths.nodes, prediction)
        result.append(
            {
                "level": right["level"],
                "truth": right["node"],
                "truth_name": right["name"],
                "prediction": wrong["node"],
                "prediction_name": wrong["name"],
                "count": count,
                "share": float(100 * count / counts[truth]),
            }
        )
    return result


def _confidence(rows: pa.Table) -> FloatArray:
    """float64[R]: probability of the prediction among the options; NaN where there is none."""
    lengths = pc.list_value_length(rows["option_logprobs"]).to_numpy().astype(np.int64)
    num_options = pc.list_value_length(rows["options"]).to_numpy()
    confidence = np.full(len(rows), np.nan)
    if (lengths != num_options).any():
        odd = int(np.flatnonzero(lengths != num_options)[0])
        raise ValueError(
            f"sample {rows['sample_id'][odd].as_py()!r}, level {rows['level'][odd].as_py()}: "
            f"{lengths[odd]} log-probabilities of {num_options[odd]} options"
        )
    has = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[has]
    logprobs = pc.list_flatten(rows["option_logprobs"]).to_numpy().astype(np.float64)
    options, ids = encode_column(pc.list_flatten(rows["options"]))
    predicted, predicted_ids = encode_column(rows["prediction"])
    place = pc.index_in(predicted_ids, ids).fill_null(-1).to_numpy()[predicted]
    is_chosen = options == np.repeat(place, lengths)
    with np.errstate(invalid="ignore"):  # infinities, whose rows stay NaN
        highest = np.repeat(np.maximum.reduceat(logprobs, starts), lengths[has])
        weights = np.exp(logprobs - highest)
    chosen = np.add.reduceat(np.where(is_chosen, weights, 0.0), starts)
    is_among = np.add.reduceat(is_chosen.astype(np.int64), starts) == 1
    confidence[has[is_among]] = (chosen / np.add.reduceat(weights, starts))[is_among]
    return confidence


def _reliability(confidence: FloatArray, is_right: BoolArray) -> dict[str, Any]:
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    sums = np.bincount(bins, confidence, NUM_BINS), np.bincount(bins, is_right, NUM_BINS)
    mean_confidence, accuracy = (100 * each / np.maximum(counts, 1) for each in sums)
    return {
        "num_answers": len(confidence),
        "confidence": float(100 * confidence.mean()),
        "accuracy": float(100 * is_right.mean()),
        "ece": float((counts * np.abs(mean_confidence - accuracy)).sum() / len(confidence)),
        "bins": [
            {
                "low": 100 * place / NUM_BINS,
                "high": 100 * (place + 1) / NUM_BINS,
                "count": count,
                "confidence": float(mean_confidence[place]) if count else None,
                "accuracy": float(accuracy[place]) if count else None,
            }
            for place, count in enumerate(counts.tolist())
        ],
    }


def _refuse_other_truths(a: Paths, b: Paths) -> None:
    width = min(a.truth.shape[1], b.truth.shape[1])
    is_other = a.scored[:, :width] & (a.truth[:, :width] != b.truth[:, :width])
    differs = (a.num_levels != b.num_levels) | is_other.any(axis=1)
    odd: IntArray = np.flatnonzero(differs)
    if a.first_level != b.first_level or len(odd):
        named = ", ".join(map(repr, a.sample_ids.take(pa.array(odd[:_NUM_NAMED])).to_pylist()))
        raise ValueError(
            f"{len(odd):,} samples have another truth in a than in b, e.g. {named}; compare "
            "predictions for the same labels"
        )


def _agreement(a: BoolArray, b: BoolArray) -> dict[str, Any]:
    num = len(a)
    counts = {
        "both_right": int((a & b).sum()),
        "only_a": int((a & ~b).sum()),
        "only_b": int((~a & b).sum()),
        "both_wrong": int((~a & ~b).sum()),
    }
    return {
        "num_samples": num,
        **{f"num_{name}": count for name, count in counts.items()},
        **{name: 100 * count / num if num else None for name, count in counts.items()},
        "mcnemar": mcnemar(counts["only_a"], counts["only_b"]),
    }
