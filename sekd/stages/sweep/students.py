"""Which students a sweep trains."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pydantic import ValidationError

from sekd.config import RunConfig
from sekd.data.samples import Dataset

logger = logging.getLogger(__name__)


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
