"""What lmms-eval wrote, and what changed from base to student.

lmms-eval gives a figure per metric and a line per sample, but does not say how the one follows from
the other: a metric may be a mean over samples, or a sum over categories, or what a judge says of
the whole. A sample's own number, or an entry of it where it is a dictionary, is taken for its score
only if the mean over the samples *is* the figure, for base and student alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sekd.errors import ShardError

FloatArray: TypeAlias = NDArray[np.float64]

_SCALES = (1.0, 100.0)  # some tasks give a share, some a percentage
_ROUNDING = 1e-4  # of a share: some tasks round their percentage to two digits
_UNCERTAINTY = ("_stderr", "_stderr_clt", "_stderr_clustered")

MetricKey: TypeAlias = tuple[str, str, str]
"""Task, metric, filter: what lmms-eval made of the reply before it was scored, mostly "none"."""


@dataclass(frozen=True)
class BenchmarkResults:
    """One model on one task, or on the tasks of one group.

    Attributes:
        figures: in lmms-eval's own units.
        higher_is_better: by task and metric; ``None`` where the task does not say.
        num_samples: by task; a group has none.
        samples: by task: what was logged for each sample.
    """

    figures: Mapping[MetricKey, float]
    higher_is_better: Mapping[tuple[str, str], bool | None]
    num_samples: Mapping[str, int]
    samples: Mapping[str, Sequence[Mapping[str, Any]]]

    @classmethod
    def load(cls, folder: Path) -> BenchmarkResults:
        """Read ``results.json`` and the ``samples-<task>.jsonl`` beside it.

        Raises:
            ShardError: if they are not what lmms-eval writes.
        """
        path = folder / "results.json"
        try:
            content = json.loads(path.read_text("utf-8"))
            samples = {}
            for task in content["results"]:
                path = folder / f"samples-{task}.jsonl"
                if path.is_file():
                    lines = path.read_text("utf-8").splitlines()
                    samples[task] = [json.loads(line) for line in lines]
            return cls(
                figures=dict(_figures(content["results"])),
                higher_is_better={
                    (task, metric): better
                    for task, metrics in content.get("higher_is_better", {}).items()
                    for metric, better in metrics.items()
                },
                num_samples={
                    task: int(counts["effective"])
                    for task, counts in content.get("n-samples", {}).items()
                },
                samples=samples,
            )
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ShardError(
                f"{path}: not what lmms-eval writes ({type(error).__name__}: {error}); remove "
                f"{folder} and run sekd benchmark again"
            ) from error


def _figures(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[MetricKey, float]]:
    for task, entries in results.items():
        for key, value in entries.items():
            metric, comma, filter_name = key.partition(",")
            if not comma or metric.endswith(_UNCERTAINTY):
                continue
            if isinstance(value, int | float) and math.isfinite(value):
                yield (task, metric, filter_name), float(value)


@dataclass(frozen=True)
class Pairing:
    """Scores of base and student on the same samples, float[N] each, or the reason for none."""

    base: FloatArray | None = None
    student: FloatArray | None = None
    reason: str | None = None


def pair(base: BenchmarkResults, student: BenchmarkResults, key: MetricKey) -> Pairing:
    """Join the samples of both by their id and find the scores behind a metric's two figures."""
    task, metric, _ = key
    if task not in base.samples or task not in student.samples:
        return Pairing(reason="only the aggregate is known")
    rows, other_rows = _by_id(base.samples[task]), _by_id(student.samples[task])
    if rows is None or other_rows is None:
        return Pairing(reason="a sample is logged more than once")
    if rows.keys() != other_rows.keys():
        return Pairing(reason="base and student saw other samples")
    found: list[FloatArray] = []
    for name in _score_names(rows, metric):
        scores = _scores(rows, metric, name), _scores(other_rows, metric, name)
        if scores[0] is None or scores[1] is None:
            continue
        both = np.stack([scores[0], scores[1]])
        figures = np.array([base.figures[key], student.figures[key]])
        found += [both * scale for scale in _SCALES if _are_means(both * scale, figures, scale)][:1]
    if not found:
        return Pairing(reason="not a mean over samples")
    if any(not np.array_equal(both, found[0]) for both in found[1:]):
        return Pairing(reason="several scores of a sample could be meant")
    return Pairing(*found[0])


def _by_id(samples: Sequence[Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]] | None:
    rows = {sample["doc_id"]: sample for sample in samples}
    return rows if len(rows) == len(samples) else None


def _score_names(rows: Mapping[Any, Mapping[str, Any]], metric: str) -> list[str | None]:
    """Where a sample's score may stand: ``None`` for the value itself, or entries of it."""
    first = next(iter(rows.values()), {}).get(metric)
    return list(first) if isinstance(first, dict) else [None]


def _scores(
    rows: Mapping[Any, Mapping[str, Any]], metric: str, name: str | None
) -> FloatArray | None:
    """float[N] in the order of the ids; ``None`` if one is no number."""
    values = []
    for sample_id in sorted(rows, key=str):
        value = rows[sample_id].get(metric)
        if name is not None:
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        values.append(float(value))
    return np.array(values)


def _are_means(scores: FloatArray, figures: FloatArray, scale: float) -> bool:
    """Whether scores, float[2, N], have these means, float[2], but for rounding."""
    if not scores.size:
        return False
    return bool(np.all(np.abs(scores.mean(axis=1) - figures) <= _ROUNDING * scale))


def paired_interval(
    base: FloatArray, student: FloatArray, *, num_bootstrap: int, seed: int
) -> tuple[float, float]:
    """Bootstrap 95 % percentile interval of the mean change, samples drawn in pairs.

    Samples with the same change are one outcome of a multinomial draw, which is the bootstrap over
    samples itself, whatever their number.
    """
    changes, counts = np.unique(student - base, return_counts=True)
    num_samples = len(base)
    rng = np.random.default_rng(seed)
    shares = counts / num_samples
    means = [rng.multinomial(num_samples, shares) @ changes for _ in range(num_bootstrap)]
    low, high = np.percentile(np.array(means) / num_samples, [2.5, 97.5])
    return float(low), float(high)


def compare_benchmarks(
    base: BenchmarkResults, student: BenchmarkResults | None, *, num_bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """One row of ``benchmark.json`` per metric.

    ``verdict`` is ``gain`` or ``loss`` where the interval leaves zero out and the task says which
    way is better, ``unclear`` where it holds zero, else ``None``.
    """
    rows = []
    for key, figure in base.figures.items():
        task, metric, filter_name = key
        better = base.higher_is_better.get((task, metric))
        row: dict[str, Any] = {
            "task": task,
            "metric": metric,
            "filter": filter_name,
            "higher_is_better": better,
            "num_samples": base.num_samples.get(task),
            "base": figure,
            "student": None,
            "change": None,
            "low": None,
            "high": None,
            "no_interval": None,
            "verdict": None,
        }
        if student is not None and key in student.figures:
            row["student"] = student.figures[key]
            row["change"] = row["student"] - figure
            pairing = pair(base, student, key)
            row["no_interval"] = pairing.reason
            if pairing.base is not None and pairing.student is not None:
                low, high = paired_interval(
                    pairing.base, pairing.student, num_bootstrap=num_bootstrap, seed=seed
                )
                row |= {"low": low, "high": high, "verdict": _verdict(low, high, better)}
        rows.append(row)
    return rows


def _verdict(low: float, high: float, higher_is_better: bool | None) -> str | None:
    if low <= 0 <= high:
        return "unclear"
    if higher_is_better is None:
        return None
    return "gain" if (low > 0) == higher_is_better else "loss"
