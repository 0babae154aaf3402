"""A sweep: which students it trains, and what they come to over the seeds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from pydantic import ValidationError

from sekd.analysis.metrics import Estimate
from sekd.analysis.results import Evaluation
from sekd.config import BASE, RunConfig
from sekd.data.samples import Dataset

logger = logging.getLogger(__name__)

FORGOTTEN = ("conditioned", "independent")
"""Paradigms that no student is trained for, beside replay: what it lost there is forgetting."""

REFERENCES = {"base": "joint", "base, conditioned": "conditioned"}
"""What students are held against -> the paradigm that the base is asked in."""


@dataclass(frozen=True)
class Student:
    """One variant, trained with one seed.

    Attributes:
        config: the run's, with the variant's settings and the seed in ``distill``.
    """

    variant: str
    seed: int
    name: str
    config: RunConfig


def students_of(config: RunConfig) -> list[Student]:
    """Every variant with every seed, in the config's order.

    Left out, with a notice, are one of those that are there unasked where it does not go with the
    config's ``distill``, and one that learns the truth where a sample's is not known.
    """
    found = []
    lacks_truth = None
    for variant in config.sweep.variants:
        try:
            spec = config.variant(variant)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            logger.info("sweep: %s is left out, for this config: %s", variant, problem)
            continue
        if spec.labels == "truth":
            lacks_truth = _lacks_truth(config) if lacks_truth is None else lacks_truth
            if lacks_truth:
                logger.info("sweep: %s is left out: %s", variant, lacks_truth)
                continue
        for seed in config.sweep.seeds or (spec.seed,):
            own = spec.model_copy(update={"seed": seed})
            name = f"{variant}.s{seed}" if len(config.sweep.seeds) > 1 else variant
            found.append(Student(variant, seed, name, config.model_copy(update={"distill": own})))
    return found


def _lacks_truth(config: RunConfig) -> str:
    """Why the truth cannot be learned, or nothing."""
    name = config.elicit.dataset
    dataset = Dataset.load(name, config.dataset(name, "elicit.dataset"))
    num_unlabelled = dataset.samples.leaves.null_count
    if num_unlabelled:
        return f"{num_unlabelled:,} of {len(dataset.samples):,} samples of {name} have no label"
    if dataset.spec.distractors == "walk":
        return f"data.{name}.distractors: walk does not always show the true node"
    return ""


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """A variant on a dataset; rates in percent.

    Attributes:
        hca: by seed, with its bootstrap interval over samples; joint.
        num_failed: seeds whose training failed.
        parse_failure_rate: joint, mean over seeds; ``None`` where no seed was evaluated.
        forgotten: by paradigm, the mean HCA less the base's, in percentage points.
    """

    dataset: str
    variant: str
    hca: Mapping[int, Estimate]
    num_failed: int
    parse_failure_rate: float | None
    forgotten: Mapping[str, float]

    @property
    def over_seeds(self) -> Estimate | None:
        """Mean, lowest and highest HCA of the seeds; of a single one its bootstrap interval."""
        if not self.hca:
            return None
        if len(self.hca) == 1:
            return next(iter(self.hca.values()))
        values = [each.value for each in self.hca.values()]
        return Estimate(fmean(values), min(values), max(values))

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON; ``std`` is that of a sample of seeds."""
        values = [each.value for each in self.hca.values()]
        return {
            "dataset": self.dataset,
            "variant": self.variant,
            "num_seeds": len(values),
            "num_failed": self.num_failed,
            "hca": {
                "mean": fmean(values) if values else None,
                "std": stdev(values) if len(values) > 1 else None,
                "seeds": {str(seed): each.to_json() for seed, each in self.hca.items()},
            },
            "parse_failure_rate": self.parse_failure_rate,
            **{f"{paradigm}_difference": value for paradigm, value in self.forgotten.items()},
        }


def rows_of(results: Evaluation, students: Sequence[Student]) -> list[SweepRow]:
    """A row for each dataset and variant, in the config's order.

    Args:
        results: of the students that could be trained.
        students: all of the sweep.
    """
    variants = dict.fromkeys(student.variant for student in students)
    return [
        _row(results, dataset, variant, [each for each in students if each.variant == variant])
        for dataset in results.datasets
        for variant in variants
    ]


def _row(results: Evaluation, dataset: str, variant: str, students: Sequence[Student]) -> SweepRow:
    there = [each for each in students if each.name in results.models]
    hca = {each.seed: results.rate(dataset, each.name, "joint") for each in there}
    unparsed = [results.rate(dataset, each.name, "joint", "parse_failure_rate") for each in there]
    forgotten = {}
    for paradigm in FORGOTTEN:
        base = results.rate(dataset, BASE, paradigm)
        own = [results.rate(dataset, each.name, paradigm) for each in there]
        values = [each.value for each in own if each]
        if base and values:
            forgotten[paradigm] = fmean(values) - base.value
    rates = [each.value for each in unparsed if each]
    return SweepRow(
        dataset=dataset,
        variant=variant,
        hca={seed: each for seed, each in hca.items() if each},
        num_failed=len(students) - len(there),
        parse_failure_rate=fmean(rates) if rates else None,
        forgotten=forgotten,
    )


def references(results: Evaluation, dataset: str) -> dict[str, Estimate]:
    """What students are held against: HCA of the base asked at once, and of it as the teacher."""
    found = {name: results.rate(dataset, BASE, paradigm) for name, paradigm in REFERENCES.items()}
    return {name: rate for name, rate in found.items() if rate}
