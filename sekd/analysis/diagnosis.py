"""Explain a score: where paths break, which nodes are confused, and how confident the model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from sekd.analysis.breakdown import NodeName, count_confusions
from sekd.analysis.calibration import CellCalibration, measure_calibration
from sekd.analysis.paths import NOT_PARSED, Paths
from sekd.analysis.selective import SelectiveCurve, selective_curves
from sekd.analysis.temperature import apply_temperatures

NO_ERROR = -1
"""Stands for "the whole path is right" among the levels of first errors."""
_NUM_CONFUSED_PAIRS = 20


@dataclass(frozen=True)
class SampleShare:
    """The number of samples, and the same in percent of all samples."""

    count: int
    share: float


@dataclass(frozen=True)
class SubtreeCount:
    """The samples of one node of level 1 that are sent to a node of level 1.

    Attributes:
        prediction: ``None`` where the answer could not be parsed.
    """

    truth: str
    prediction: str | None
    count: int


@dataclass(frozen=True)
class ConfusedPair:
    """A wrong answer: its node ids and names.

    Attributes:
        share: percent of the answers with that truth.
    """

    level: int
    truth: str
    truth_name: str
    prediction: str
    prediction_name: str
    count: int
    share: float


@dataclass(frozen=True)
class Scaling:
    """The temperatures of a cell's model and paradigm.

    Attributes:
        temperatures: level -> temperature.
        dataset: name of the images that they were fitted on.
        num_images: their number.
        is_same_data: they are the images of this cell, so that its figures are no test of them.
    """

    temperatures: Mapping[int, float]
    dataset: str
    num_images: int
    is_same_data: bool

    def __str__(self) -> str:
        return f"calibrated on {self.dataset}{', these images' if self.is_same_data else ''}"


@dataclass(frozen=True)
class CalibratedDiagnosis:
    """How confident a model is once its probabilities are scaled by temperatures.

    Attributes:
        calibration, selective: as in :class:`Diagnosis`, of the scaled probabilities.
    """

    scaling: Scaling
    calibration: CellCalibration
    selective: Mapping[int, SelectiveCurve]

    def to_json(self) -> dict[str, Any]:
        """Return ``calibrated`` of a diagnosis."""
        levels = {str(level): each for level, each in self.scaling.temperatures.items()}
        return {
            **asdict(self.scaling),
            "temperatures": levels,
            "calibration": self.calibration.to_json(),
            "selective": _curves_to_json(self.selective),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CalibratedDiagnosis:
        """Read what :meth:`to_json` returns."""
        temperatures = {int(level): each for level, each in content["temperatures"].items()}
        scaling = Scaling(
            temperatures, content["dataset"], content["num_images"], content["is_same_data"]
        )
        calibration = CellCalibration.from_json(content["calibration"])
        return cls(scaling, calibration, _curves_from_json(content["selective"]))


def _curves_to_json(curves: Mapping[int, SelectiveCurve]) -> dict[str, Any]:
    return {str(level): curve.to_json() for level, curve in curves.items()}


def _curves_from_json(content: Mapping[str, Any]) -> dict[int, SelectiveCurve]:
    return {int(level): SelectiveCurve.from_json(points) for level, points in content.items()}


@dataclass(frozen=True)
class Diagnosis:
    """One cell: one model, dataset and paradigm.

    Attributes:
        first_error: level, or :data:`NO_ERROR` -> samples whose first wrong answer is there.
        subtrees: samples by their node of level 1 and the answered one, right answers included.
        most_confused: the 20 most frequent pairs of a right and a wrong node, at any level.
        calibration: ``None`` where no answer has log-probabilities.
        selective: level -> accuracy against coverage, where answers have log-probabilities.
        calibrated: ``None`` where the model has no temperatures for this paradigm.
    """

    num_samples: int
    first_error: Mapping[int, SampleShare]
    subtrees: Sequence[SubtreeCount]
    most_confused: Sequence[ConfusedPair]
    calibration: CellCalibration | None
    selective: Mapping[int, SelectiveCurve] = field(default_factory=dict)
    calibrated: CalibratedDiagnosis | None = None

    @property
    def ece(self) -> float | None:
        """The expected calibration error over all levels, where there are log-probabilities."""
        return None if self.calibration is None else self.calibration.all.ece

    @property
    def calibrated_ece(self) -> float | None:
        """The expected calibration error after scaling; ``None`` without a calibration."""
        return None if self.calibrated is None else self.calibrated.calibration.all.ece

    def to_json(self) -> dict[str, Any]:
        """Return ``diagnosis`` of a row of ``metrics.json``."""
        return {
            "num_samples": self.num_samples,
            "first_error": {
                "none" if level == NO_ERROR else str(level): asdict(share)
                for level, share in self.first_error.items()
            },
            "subtrees": [asdict(subtree) for subtree in self.subtrees],
            "most_confused": [asdict(pair) for pair in self.most_confused],
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            **({"selective": _curves_to_json(self.selective)} if self.selective else {}),
            **({} if self.calibrated is None else {"calibrated": self.calibrated.to_json()}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Diagnosis:
        """Read what :meth:`to_json` returns."""
        calibration, calibrated = content["calibration"], content.get("calibrated")
        return cls(
            num_samples=content["num_samples"],
            first_error={
                NO_ERROR if level == "none" else int(level): SampleShare(**share)
                for level, share in content["first_error"].items()
            },
            subtrees=[SubtreeCount(**subtree) for subtree in content["subtrees"]],
            most_confused=[ConfusedPair(**pair) for pair in content["most_confused"]],
            calibration=None if calibration is None else CellCalibration.from_json(calibration),
            selective=_curves_from_json(content.get("selective", {})),
            calibrated=None if calibrated is None else CalibratedDiagnosis.from_json(calibrated),
        )


def diagnose(paths: Paths, rows: pa.Table, scaling: Scaling | None = None) -> Diagnosis:
    """Diagnose one cell.

    Args:
        paths: see :func:`sekd.analysis.paths.paths_of`; their first level is 1.
        rows: the rows of :data:`sekd.data.predictions.PREDICTION_SCHEMA` that they were made from.
            Of several rotations all count in the calibration: the worst ones, which make the paths,
            are chosen by being wrong, and would look overconfident.
        scaling: the temperatures of the cell's model, where it has some.
    """
    return Diagnosis(
        num_samples=len(paths),
        first_error=_count_first_errors(paths),
        subtrees=_count_subtrees(paths),
        most_confused=_most_confused_pairs(paths),
        calibration=measure_calibration(rows),
        selective=selective_curves(rows),
        calibrated=None if scaling is None else _diagnose_scaled(rows, scaling),
    )


def _diagnose_scaled(rows: pa.Table, scaling: Scaling) -> CalibratedDiagnosis | None:
    scaled = apply_temperatures(rows, scaling.temperatures)
    calibration = measure_calibration(scaled)
    if calibration is None:
        return None
    return CalibratedDiagnosis(scaling, calibration, selective_curves(scaled))


def _count_first_errors(paths: Paths) -> dict[int, SampleShare]:
    is_wrong = paths.scored & ~paths.correct
    num_columns = is_wrong.shape[1]
    first = np.where(is_wrong.any(axis=1), np.argmax(is_wrong, axis=1), num_columns)
    counts = np.bincount(first, minlength=num_columns + 1).tolist()
    levels = [*range(paths.first_level, paths.first_level + num_columns), NO_ERROR]
    return {
        level: SampleShare(count, 100 * count / len(paths))
        for level, count in zip(levels, counts, strict=True)
    }


def _count_subtrees(paths: Paths) -> list[SubtreeCount]:
    nodes = paths.nodes.nodes
    truth = paths.truth[:, 0].astype(np.int64)
    prediction = np.maximum(paths.prediction[:, 0], NOT_PARSED)
    pairs, counts = np.unique(np.column_stack([truth, prediction]), axis=0, return_counts=True)
    return [
        SubtreeCount(
            nodes[truth_number].id,
            None if predicted_number == NOT_PARSED else nodes[predicted_number].id,
            count,
        )
        for (truth_number, predicted_number), count in zip(
            pairs.tolist(), counts.tolist(), strict=True
        )
    ]


def _most_confused_pairs(paths: Paths) -> list[ConfusedPair]:
    num_answers = np.bincount(paths.truth[paths.scored], minlength=len(paths.nodes.nodes))
    confusions = count_confusions(paths).most_frequent_first()
    pairs = []
    for truth, prediction, count in islice(confusions, _NUM_CONFUSED_PAIRS):
        right, wrong = NodeName.of(paths.nodes, truth), NodeName.of(paths.nodes, prediction)
        pairs.append(
            ConfusedPair(
                level=right.level,
                truth=right.node,
                truth_name=right.name,
                prediction=wrong.node,
                prediction_name=wrong.name,
                count=count,
                share=float(100 * count / num_answers[truth]),
            )
        )
    return pairs
