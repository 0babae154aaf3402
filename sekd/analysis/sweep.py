"""A sweep: which students it trains, and what they come to over the seeds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from pydantic import ValidationError

from sekd.analysis.estimates import Estimate
from sekd.analysis.results import Evaluation
from sekd.config import BASE, Paradigm, RunConfig
from sekd.data.samples import Dataset

logger = logging.getLogger(__name__)

FORGOTTEN = ("conditioned", "independent")
"""Paradigms in which no student is trained, beside replay: what it lost there is forgetting."""


@dataclass(frozen=True)
class SweepStudent:
    """One variant, trained with one seed.

    Attributes:
        config: the run's config, with the variant's settings and the seed in ``distill``.
    """

    variant: str
    seed: int
    name: str
    config: RunConfig


def students_of(config: RunConfig) -> list[SweepStudent]:
    """Return every variant with every seed, in the config's order.

    Two kinds of variants are left out, with a notice: one of the default variants that does not go
    with the config's ``distill``, and one that learns the truth where a sample's truth is not
    known.
    """
    students = []
    lacks_truth = None
    for variant in config.sweep.variants:
        try:
            spec = config.variant(variant)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            logger.info("sweep: %s is left out, for this config: %s", variant, problem)
            continue
        if spec.labels == "truth":
            lacks_truth = _why_truth_is_unknown(config) if lacks_truth is None else lacks_truth
            if lacks_truth:
                logger.info("sweep: %s is left out: %s", variant, lacks_truth)
                continue
        for seed in config.sweep.seeds or (spec.seed,):
            seeded = config.model_copy(update={"distill": spec.model_copy(update={"seed": seed})})
            name = f"{variant}.s{seed}" if len(config.sweep.seeds) > 1 else variant
            students.append(SweepStudent(variant, seed, name, seeded))
    return students


def _why_truth_is_unknown(config: RunConfig) -> str:
    """Return why a student cannot learn the truth; empty if it can."""
    name = config.elicit.dataset
    dataset = Dataset.load(name, config.dataset(name, "elicit.dataset"))
    num_unlabelled = dataset.samples.leaves.null_count
    if num_unlabelled:
        return f"{num_unlabelled:,} of {len(dataset.samples):,} samples of {name} have no label"
    if dataset.spec.options == "children":
        return f"data.{name}.options: children takes the teacher's own labels"
    return ""


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """A variant on a dataset; rates in percent.

    Attributes:
        hca: HCA by seed, in what students learn, with its bootstrap interval over samples.
        num_failed: the number of seeds whose training failed.
        parse_failure_rate: the same, mean over seeds; ``None`` where no seed was evaluated.
        forgotten: by paradigm, the mean HCA minus the base's, in percentage points.
    """

    dataset: str
    variant: str
    hca: Mapping[int, Estimate]
    num_failed: int
    parse_failure_rate: float | None
    forgotten: Mapping[str, float]

    @property
    def over_seeds(self) -> Estimate | None:
        """Mean, lowest and highest HCA of the seeds; of a single seed its bootstrap interval."""
        if not self.hca:
            return None
        if len(self.hca) == 1:
            return next(iter(self.hca.values()))
        values = [rate.value for rate in self.hca.values()]
        return Estimate(fmean(values), min(values), max(values))

    def to_json(self) -> dict[str, Any]:
        """Return the row for JSON; ``std`` is that of a sample of seeds."""
        values = [rate.value for rate in self.hca.values()]
        return {
            "dataset": self.dataset,
            "variant": self.variant,
            "num_seeds": len(values),
            "num_failed": self.num_failed,
            "hca": {
                "mean": fmean(values) if values else None,
                "std": stdev(values) if len(values) > 1 else None,
                "seeds": {str(seed): rate.to_json() for seed, rate in self.hca.items()},
            },
            "parse_failure_rate": self.parse_failure_rate,
            **{f"{paradigm}_difference": value for paradigm, value in self.forgotten.items()},
        }


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        evaluation: of the base and the students that could be trained.
        paradigm: in which ``rows`` are measured: what students of the run's config learn.
        rows: one for each dataset and variant, in the config's order.
        failed: student -> why it could not be trained.
    """

    evaluation: Evaluation
    paradigm: Paradigm
    rows: Sequence[SweepRow]
    failed: Mapping[str, str]

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        paradigm: Paradigm,
        students: Sequence[SweepStudent],
        failed: Mapping[str, str],
    ) -> SweepResult:
        """Sum up the students of each variant.

        Args:
            students: all of the sweep.
        """
        by_variant: dict[str, list[SweepStudent]] = {}
        for student in students:
            by_variant.setdefault(student.variant, []).append(student)
        rows = [
            _sum_up_seeds(evaluation, paradigm, dataset, variant, seeds)
            for dataset in evaluation.datasets
            for variant, seeds in by_variant.items()
        ]
        return cls(evaluation, paradigm, rows, failed)

    @property
    def asked(self) -> dict[str, Paradigm]:
        """Name of each row of the base, and the paradigm that it was asked in."""
        return {"base": self.paradigm, "base, conditioned": "conditioned"}

    def references(self, dataset: str) -> dict[str, Estimate]:
        """Return the HCA of the base asked like a student, and of the base as the teacher."""
        rates = {
            name: self.evaluation.rate(dataset, BASE, paradigm)
            for name, paradigm in self.asked.items()
        }
        return {name: rate for name, rate in rates.items() if rate}

    def to_json(self) -> dict[str, Any]:
        """Return what ``sekd sweep --json`` prints."""
        return {
            "paradigm": self.paradigm,
            "rows": [row.to_json() for row in self.rows],
            "references": {
                dataset: {name: rate.to_json() for name, rate in self.references(dataset).items()}
                for dataset in self.evaluation.datasets
            },
            "failed": dict(self.failed),
        }


def _sum_up_seeds(
    evaluation: Evaluation,
    learned: Paradigm,
    dataset: str,
    variant: str,
    seeds: Sequence[SweepStudent],
) -> SweepRow:
    trained = [student for student in seeds if student.name in evaluation.models]

    def rates(paradigm: str, metric: str = "hca") -> dict[int, Estimate]:
        by_seed = {
            student.seed: evaluation.rate(dataset, student.name, paradigm, metric)
            for student in trained
        }
        return {seed: rate for seed, rate in by_seed.items() if rate}

    forgotten = {}
    for paradigm in FORGOTTEN:
        base = evaluation.rate(dataset, BASE, paradigm)
        values = [rate.value for rate in rates(paradigm).values()]
        if base and values:
            forgotten[paradigm] = fmean(values) - base.value
    unparsed = [rate.value for rate in rates(learned, "parse_failure_rate").values()]
    return SweepRow(
        dataset=dataset,
        variant=variant,
        hca=rates(learned),
        num_failed=len(seeds) - len(trained),
        parse_failure_rate=fmean(unparsed) if unparsed else None,
        forgotten=forgotten,
    )
