"""Read the figures of lmms-eval, and compare base and student.

lmms-eval gives a figure per metric and a line per sample, but does not say how the figure follows
from the samples: a metric may be a mean over samples, a sum over categories, or a judgement of the
whole. A sample's own number, or an entry of it where it is a dictionary, is taken for its score
only if the mean over the samples *is* the figure, for base and student alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from sekd.analysis.intervals import DifferingPairs, widen_difference
from sekd.analysis.paths import FloatArray
from sekd.errors import ShardError
from sekd.io.files import read_bytes

_SCALES = (1.0, 100.0)  # some tasks give a share, some a percentage
_ROUNDING = 1e-4  # as a share: some tasks round their percentage to two digits
_UNCERTAINTY = ("_stderr", "_stderr_clt", "_stderr_clustered")

MetricKey: TypeAlias = tuple[str, str, str]
"""Task, metric, and filter: what lmms-eval did with the reply before it was scored, mostly
"none"."""


@dataclass(frozen=True)
class BenchmarkScores:
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
    def load(cls, folder: Path) -> BenchmarkScores:
        """Read ``results.json`` and the ``samples-<task>.jsonl`` beside it.

        Raises:
            ShardError: if they are not what lmms-eval writes.
        """
        path = folder / "results.json"
        try:
            content = json.loads(read_bytes(path))
            samples = {}
            for task in content["results"]:
                path = folder / f"samples-{task}.jsonl"
                if path.is_file():
                    lines = read_bytes(path).decode().splitlines()
                    samples[task] = [json.loads(line) for line in lines]
            return cls(
                figures=dict(_read_figures(content["results"])),
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


def _read_figures(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[MetricKey, float]]:
    for task, entries in results.items():
        for key, value in entries.items():
            metric, comma, filter_name = key.partition(",")
            if not comma or metric.endswith(_UNCERTAINTY):
                continue
            if isinstance(value, int | float) and math.isfinite(value):
                yield (task, metric, filter_name), float(value)


@dataclass(frozen=True)
class PairedScores:
    """Scores of base and student on the same samples, float[N] each, or the reason for none."""

    base: FloatArray | None = None
    student: FloatArray | None = None
    reason: str | None = None


def pair_scores(base: BenchmarkScores, student: BenchmarkScores, key: MetricKey) -> PairedScores:
    """Join the samples of both by their id and find the scores behind a metric's two figures."""
    task, metric, _ = key
    if task not in base.samples or task not in student.samples:
        return PairedScores(reason="only the aggregate is known")
    base_rows, student_rows = _by_id(base.samples[task]), _by_id(student.samples[task])
    if base_rows is None or student_rows is None:
        return PairedScores(reason="a sample is logged more than once")
    if base_rows.keys() != student_rows.keys():
        return PairedScores(reason="base and student saw other samples")
    figures = np.array([base.figures[key], student.figures[key]])
    candidates: list[FloatArray] = []
    for name in _score_names(base_rows, metric):
        base_scores = _sample_scores(base_rows, metric, name)
        student_scores = _sample_scores(student_rows, metric, name)
        if base_scores is None or student_scores is None:
            continue
        scaled = _scale_to_means(np.stack([base_scores, student_scores]), figures)
        if scaled is not None:
            candidates.append(scaled)
    if not candidates:
        return PairedScores(reason="not a mean over samples")
    first, *others = candidates
    if any(not np.array_equal(other, first) for other in others):
        return PairedScores(reason="several scores of a sample could be meant")
    return PairedScores(base=first[0], student=first[1])


def _by_id(samples: Sequence[Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]] | None:
    rows = {sample["doc_id"]: sample for sample in samples}
    return rows if len(rows) == len(samples) else None


def _score_names(rows: Mapping[Any, Mapping[str, Any]], metric: str) -> list[str | None]:
    """Return where a sample's score may be: ``None`` for the value itself, or its entries."""
    first = next(iter(rows.values()), {}).get(metric)
    return list(first) if isinstance(first, dict) else [None]


def _sample_scores(
    rows: Mapping[Any, Mapping[str, Any]], metric: str, name: str | None
) -> FloatArray | None:
    """Return float[N] in the order of the ids; ``None`` if a score is no number."""
    values = []
    for sample_id in sorted(rows, key=str):
        value = rows[sample_id].get(metric)
        if name is not None:
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        values.append(float(value))
    return np.array(values)


def _scale_to_means(scores: FloatArray, figures: FloatArray) -> FloatArray | None:
    """Scale scores, float[2, N], so that their means are the figures, float[2], but for rounding.

    Returns:
        ``None`` if no scale does it.
    """
    if not scores.size:
        return None
    for scale in _SCALES:
        scaled = scores * scale
        if np.all(np.abs(scaled.mean(axis=1) - figures) <= _ROUNDING * scale):
            return scaled
    return None


def paired_interval(
    base: FloatArray, student: FloatArray, *, num_bootstrap: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % interval of the mean change, by a bootstrap over pairs of samples.

    It is widened where too few pairs differ, as :func:`.intervals.widen_difference` says. Samples
    with the same change are one outcome of a multinomial draw, which is the bootstrap over samples
    itself, whatever their number.
    """
    changes, counts = np.unique(student - base, return_counts=True)
    num_samples = len(base)
    rng = np.random.default_rng(seed)
    shares = counts / num_samples
    means = [rng.multinomial(num_samples, shares) @ changes for _ in range(num_bootstrap)]
    low, high = np.percentile(np.array(means) / num_samples, [2.5, 97.5])
    values = np.unique([base, student])
    span = float(values[-1] - values[0]) or 1.0
    pairs = DifferingPairs(
        higher=int((student > base).sum()),
        lower=int((student < base).sum()),
        num=num_samples,
        is_proportion=len(values) <= 2,
    )
    low, high = widen_difference(float(low) / span, float(high) / span, pairs)
    return low * span, high * span


Verdict: TypeAlias = Literal["gain", "loss", "unclear"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One metric of one task: a row of ``benchmark.json``, in the units of the task.

    Attributes:
        higher_is_better: ``None`` where the task does not say.
        num_samples: ``None`` for a group of tasks.
        student, change: ``None`` where there is no student.
        low, high: ends of the paired bootstrap 95 % interval of the change.
        no_interval: why there is no interval.
        verdict: ``gain`` or ``loss`` where the interval leaves zero out and the task says which way
            is better, ``unclear`` where it holds zero.
    """

    task: str
    metric: str
    filter: str
    higher_is_better: bool | None
    num_samples: int | None
    base: float
    student: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    no_interval: str | None = None
    verdict: Verdict | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as ``benchmark.json`` has it."""
        return asdict(self)


def compare_benchmarks(
    base: BenchmarkScores, student: BenchmarkScores | None, *, num_bootstrap: int, seed: int
) -> list[BenchmarkRow]:
    """Compare base and student metric by metric."""
    rows = []
    for key, figure in base.figures.items():
        task, metric, filter_name = key
        higher_is_better = base.higher_is_better.get((task, metric))
        changed: dict[str, Any] = {}
        if student is not None and key in student.figures:
            scores = pair_scores(base, student, key)
            changed = {
                "student": student.figures[key],
                "change": student.figures[key] - figure,
                "no_interval": scores.reason,
            }
            if scores.base is not None and scores.student is not None:
                low, high = paired_interval(
                    scores.base, scores.student, num_bootstrap=num_bootstrap, seed=seed
                )
                verdict = _judge(low, high, higher_is_better)
                changed |= {"low": low, "high": high, "verdict": verdict}
        rows.append(
            BenchmarkRow(
                task=task,
                metric=metric,
                filter=filter_name,
                higher_is_better=higher_is_better,
                num_samples=base.num_samples.get(task),
                base=figure,
                **changed,
            )
        )
    return rows


def _judge(low: float, high: float, higher_is_better: bool | None) -> Verdict | None:
    if low <= 0 <= high:
        return "unclear"
    if higher_is_better is None:
        return None
    return "gain" if (low > 0) == higher_is_better else "loss"
