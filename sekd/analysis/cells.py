"""A cell of an evaluation: the rows that were predicted, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cost import MeanCost
from sekd.analysis.diagnosis import Diagnosis, Scaling
from sekd.analysis.estimates import Estimate, MetricValues
from sekd.analysis.paths import Paths, paths_of
from sekd.analysis.question_shares import QuestionShares
from sekd.data.predictions import scored_rows
from sekd.data.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class CellRows:
    """The predictions of a finished cell.

    Attributes:
        rows: of :data:`sekd.data.predictions.PREDICTION_SCHEMA`.
        num_quarantined: the number of samples that were set aside and are in no figure.
        cost: ``None`` where no model was asked.
        scaling: the temperatures of the model, where it was calibrated for the paradigm.
    """

    key: CellKey
    taxonomy: Taxonomy
    rows: pa.Table
    num_quarantined: int
    cost: MeanCost | None
    scaling: Scaling | None = None

    @cached_property
    def scored(self) -> pa.Table:
        """One row for each sample and level: the worst of several rotations."""
        return scored_rows(self.rows)

    @cached_property
    def paths(self) -> Paths:
        """The paths of the scored rows.

        Raises:
            ValueError: see :func:`sekd.analysis.paths.paths_of`.
        """
        return paths_of(self.scored, self.taxonomy)

    @property
    def has_rotations(self) -> bool:
        """Every sample was asked about under several rotations of the options."""
        return len(self.scored) < len(self.rows)


@dataclass(frozen=True)
class CellResult:
    """One row of ``metrics.json``; every rate is in percent.

    Attributes:
        is_zero_shot: the student was not taught all of the dataset's nodes.
        num_quarantined: the number of samples that were set aside and are in no figure.
        cost: ``None`` where no model was asked.
        plain: of a controlled cell, the metrics of the cell that it qualifies on the same samples;
            ``None`` where that cell was not measured, or has none of them.
        num_trained_on: the number of the dataset's images that the student was trained on.
        ranks: rank -> accuracy, where a rank stands at several depths; see
            :func:`sekd.analysis.ranks.rank_accuracy`.
        questions: shares of questions that are easier than their number of options says; ``None``
            in results of an earlier version.
    """

    key: CellKey
    is_zero_shot: bool
    num_quarantined: int
    cost: MeanCost | None
    metrics: MetricValues[Estimate]
    diagnosis: Diagnosis
    plain: MetricValues[Estimate] | None = None
    num_trained_on: int = 0
    questions: QuestionShares | None = None
    ranks: Mapping[str, Estimate] = field(default_factory=dict)

    def rate(self, metric: str) -> Estimate | None:
        """Return a metric of whole paths; ``None`` where no sample counts."""
        return self.metrics.rate(metric)

    def by_level(self, metric: str) -> dict[int, Estimate]:
        """Return a metric by level, from 1 for the first scored one."""
        return self.metrics.by_level(metric)

    @property
    def num_samples(self) -> int:
        """The number of scored samples."""
        return self.metrics.num_samples

    def to_json(self) -> dict[str, Any]:
        """Return a row of ``metrics.json``."""
        return {
            "model": self.key.model,
            "dataset": self.key.dataset,
            "paradigm": self.key.paradigm,
            "control": self.key.control,
            "zero_shot": self.is_zero_shot,
            "num_quarantined": self.num_quarantined,
            "cost": None if self.cost is None else self.cost.to_json(),
            **({} if self.questions is None else {"questions": self.questions.to_json()}),
            **self.metrics.to_json(),
            **({"rank_accuracy": self._ranks_to_json()} if self.ranks else {}),
            "num_trained_on": self.num_trained_on,
            "plain_on_same_samples": None if self.plain is None else self.plain.to_json(),
            "diagnosis": self.diagnosis.to_json(),
        }

    def _ranks_to_json(self) -> dict[str, Any]:
        return {rank: accuracy.to_json() for rank, accuracy in self.ranks.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CellResult:
        """Read what :meth:`to_json` returns."""
        cost, questions = content["cost"], content.get("questions")
        plain = content.get("plain_on_same_samples")
        return cls(
            key=CellKey(**{name: content[name] for name in CellKey._fields}),
            is_zero_shot=content["zero_shot"],
            num_quarantined=content["num_quarantined"],
            cost=None if cost is None else MeanCost.from_json(cost),
            metrics=MetricValues.from_json(content, Estimate.from_json),
            diagnosis=Diagnosis.from_json(content["diagnosis"]),
            plain=None if plain is None else MetricValues.from_json(plain, Estimate.from_json),
            num_trained_on=content.get("num_trained_on", 0),
            questions=None if questions is None else QuestionShares(**questions),
            ranks={
                rank: Estimate.from_json(accuracy)
                for rank, accuracy in content.get("rank_accuracy", {}).items()
            },
        )
