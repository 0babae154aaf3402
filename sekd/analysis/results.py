"""What ``sekd evaluate`` left in a run: the report's one place that knows its files.

``metrics.json`` must be there. Whatever else is missing, in the run or within a file, is ``None``
or empty here, so that a report of an old or a small run is a shorter report.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sekd.analysis.metrics import Estimate
from sekd.config import SOLVER, RunConfig, load_config
from sekd.data.predictions import NO_CONTROL
from sekd.errors import ConfigError
from sekd.io.locations import Location

logger = logging.getLogger(__name__)

PARADIGMS = ("joint", "independent", "conditioned")
NO_ERROR = -1
"""Stands for "the whole path is right" among the levels of first errors."""

Levels: TypeAlias = Mapping[int, Estimate]


class CellKey(NamedTuple):
    """What one row of ``metrics.json`` is about."""

    dataset: str
    model: str
    paradigm: str
    control: str = NO_CONTROL


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of like confidence: mean confidence and accuracy in percent, and how many."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True, eq=False)
class CellResult:
    """One row of ``metrics.json``; every rate is in percent."""

    key: CellKey
    row: Mapping[str, Any]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> CellResult:
        """From a row as ``metrics.json`` has it."""
        return cls(_key(row), row)

    def rate(self, name: str) -> Estimate | None:
        """A metric with its interval."""
        return _estimate(self.row.get(name))

    def by_level(self, name: str) -> Levels:
        """A metric by level, from 1 for the first scored one."""
        found = {int(level): _estimate(each) for level, each in (self.row.get(name) or {}).items()}
        return {level: each for level, each in sorted(found.items()) if each is not None}

    def cost(self, name: str) -> float | None:
        """Means per sample: calls, prefill_tokens (computed), cached_tokens (the prompts' others),
        decode_tokens, seconds."""
        value = (self.row.get("cost") or {}).get(name)
        return None if value is None else float(value)

    @property
    def computed_tokens(self) -> float | None:
        """Mean tokens per sample that were read or written anew."""
        read, written = self.cost("prefill_tokens"), self.cost("decode_tokens")
        return None if read is None or written is None else read + written

    def joint_passes(self, name: str) -> float | None:
        """Tokens or seconds, in joint passes of the same model."""
        value = ((self.row.get("cost") or {}).get("relative_to_joint") or {}).get(name)
        return None if value is None else float(value)

    @property
    def is_zero_shot(self) -> bool | None:
        """The student was not taught all of the dataset's nodes; ``None``: not known."""
        value = self.row.get("zero_shot")
        return None if value is None else bool(value)

    @property
    def num_samples(self) -> int:
        """Scored ones."""
        return int(self.row.get("num_samples") or 0)

    @property
    def num_quarantined(self) -> int:
        """Samples that were set aside and are in no figure."""
        return int(self.row.get("num_quarantined") or 0)

    @property
    def first_error(self) -> Mapping[int, float]:
        """Percent of the samples whose first wrong level is this one; ``NO_ERROR``: none is."""
        shares = self._diagnosis.get("first_error") or {}
        found = {
            NO_ERROR if key == "none" else int(key): float(each["share"])
            for key, each in shares.items()
        }
        return dict(sorted(found.items()))

    @property
    def ece(self) -> float | None:
        """Expected calibration error over all levels, in percent."""
        ece = self._calibration.get("ece")
        return None if ece is None else float(ece)

    @property
    def reliability(self) -> Sequence[ReliabilityBin]:
        """Over all levels, by confidence; bins that hold no answer are left out."""
        return [
            ReliabilityBin(float(each["confidence"]), float(each["accuracy"]), int(each["count"]))
            for each in self._calibration.get("bins") or ()
            if each.get("count")
        ]

    @property
    def confusions(self) -> Sequence[Mapping[str, Any]]:
        """Which node was taken for which, the most frequent first: level, truth_name,
        prediction_name, count, and share of the answers with that truth in percent."""
        return list(self._diagnosis.get("most_confused") or ())

    @property
    def _diagnosis(self) -> Mapping[str, Any]:
        return self.row.get("diagnosis") or {}

    @property
    def _calibration(self) -> Mapping[str, Any]:
        return (self._diagnosis.get("calibration") or {}).get("all") or {}


class Agreement(NamedTuple):
    """Samples by which of two cells was right."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int


@dataclass(frozen=True)
class Comparison:
    """Cell a beside cell b on the same samples."""

    a: CellKey
    b: CellKey
    differences: Mapping[str, Estimate]
    """Metric -> a minus b in percentage points, with a paired interval."""
    levels: Mapping[int, Agreement]
    p_value: float | None = None
    """McNemar's, of whole paths."""

    def turned(self) -> Comparison:
        """The same, seen from b."""
        return Comparison(
            self.b,
            self.a,
            {name: Estimate(-d.value, -d.high, -d.low) for name, d in self.differences.items()},
            {
                level: Agreement(each.both_right, each.only_b, each.only_a, each.both_wrong)
                for level, each in self.levels.items()
            },
            self.p_value,
        )


@dataclass(frozen=True)
class StageRecord:
    """One stage's directory, as its records say."""

    stage: str
    fingerprint: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    num_done: int | None = None
    num_quarantined: int | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A finished evaluation."""

    run: str
    cells: Mapping[CellKey, CellResult]
    comparisons: Sequence[Comparison] = ()
    root_is_scored: bool = False
    predictions: pa.Table | None = None
    """Rows of ``predictions.parquet`` without a control, with a column ``correct``: null where the
    truth is not known, False where the reply could not be parsed."""
    config: RunConfig | None = None
    made: Sequence[StageRecord] = ()

    @classmethod
    def read(cls, run: Location, made: Sequence[StageRecord] = ()) -> Evaluation:
        """Read a run's ``metrics.json``, ``predictions.parquet`` and ``evaluate.config.yaml``.

        Raises:
            ConfigError: if there are no metrics, or a file is damaged.
        """
        path = run / "metrics.json"
        try:
            content = json.loads(path.read_bytes())
            cells = [CellResult.of(row) for row in content["rows"]]
            comparisons = [_comparison(each) for each in content.get("comparisons") or ()]
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: not there; run sekd evaluate first") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: not what sekd evaluate writes: {error!r}") from error
        if not cells:
            raise ConfigError(f"{path}: no row in it; run sekd evaluate again")
        return cls(
            run=str(run),
            cells={cell.key: cell for cell in cells},
            comparisons=comparisons,
            root_is_scored=bool(content.get("root_is_scored")),
            predictions=_read_predictions(run / "predictions.parquet"),
            config=_read_config(run / "evaluate.config.yaml"),
            made=made,
        )

    @property
    def name(self) -> str:
        """The last part of the run's place."""
        return self.run.rstrip("/").rpartition("/")[2] or self.run

    @property
    def datasets(self) -> list[str]:
        """Names, in the order of the evaluation."""
        return list(dict.fromkeys(key.dataset for key in self.cells))

    @property
    def models(self) -> list[str]:
        """Names, in the order of the evaluation."""
        return list(dict.fromkeys(key.model for key in self.cells))

    def is_zero_shot(self, dataset: str) -> bool | None:
        """Whether its taxonomy was never taught in full; ``None``: not known."""
        known = [cell.is_zero_shot for key, cell in self.cells.items() if key.dataset == dataset]
        return None if None in known else any(known)

    def title(self, dataset: str) -> str:
        """A dataset's name for a person: "food (zero-shot)"."""
        return f"{dataset} (zero-shot)" if self.is_zero_shot(dataset) else dataset

    def get(
        self, dataset: str, model: str, paradigm: str, control: str = NO_CONTROL
    ) -> CellResult | None:
        """That cell, if it was measured."""
        return self.cells.get(CellKey(dataset, model, paradigm, control))

    def rate(self, dataset: str, model: str, paradigm: str, metric: str = "hca") -> Estimate | None:
        """That metric of that cell, if it was measured."""
        cell = self.get(dataset, model, paradigm)
        return cell.rate(metric) if cell else None

    @property
    def plain_cells(self) -> list[CellResult]:
        """The cells without a control, of models that are shown the picture."""
        return [
            cell
            for key, cell in self.cells.items()
            if key.control == NO_CONTROL and key.paradigm in PARADIGMS
        ]

    def options_alone(self, dataset: str) -> Estimate | None:
        """HCA of a solver that knows the taxonomy and sees the options, but no image."""
        cell = self.get(dataset, SOLVER, "options")
        return cell.rate("hca") if cell else None

    def controls_of(self, key: CellKey) -> list[CellResult]:
        """What qualifies a cell: the same model, dataset and paradigm under a control."""
        return [
            cell
            for other, cell in self.cells.items()
            if other.control != NO_CONTROL and other._replace(control=NO_CONTROL) == key
        ]

    def compare(self, a: CellKey, b: CellKey) -> Comparison | None:
        """Cell a beside cell b, whichever way round they were compared."""
        for each in self.comparisons:
            if (each.a, each.b) == (a, b):
                return each
            if (each.a, each.b) == (b, a):
                return each.turned()
        return None

    @cached_property
    def ranks(self) -> Mapping[str, Mapping[int, str]]:
        """Dataset -> level -> what it is called; the most frequent name where depths are ragged."""
        found: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        if self.predictions is not None:
            groups = self.predictions.group_by(["dataset", "level", "rank"])
            for row in groups.aggregate([([], "count_all")]).to_pylist():
                found[row["dataset"]][row["level"]][row["rank"]] += row["count_all"]
        for key, cell in self.cells.items():
            for level in cell.by_level("level_accuracy"):
                found[key.dataset][level][f"level {level}"] += 0
        return {
            dataset: {level: found[dataset][level].most_common(1)[0][0] for level in sorted(names)}
            for dataset, names in found.items()
        }

    def rank(self, dataset: str, level: int) -> str:
        """What a level of a dataset is called."""
        return self.ranks.get(dataset, {}).get(level, f"level {level}")

    @cached_property
    def mean_levels(self) -> Mapping[str, float]:
        """Dataset -> mean number of levels of its samples."""
        if self.predictions is None:
            return {}
        groups = self.predictions.group_by(["dataset", "model", "paradigm", "sample_id"])
        counted = groups.aggregate([([], "count_all")]).group_by("dataset")
        means = counted.aggregate([("count_all", "mean")]).to_pylist()
        return {row["dataset"]: row["count_all_mean"] for row in means}


def _key(row: Mapping[str, Any], dataset: str | None = None) -> CellKey:
    name = dataset if dataset is not None else row["dataset"]
    control = str(row.get("control") or NO_CONTROL)
    if row["model"] == SOLVER:  # is a control itself, and qualifies no cell of its own
        control = NO_CONTROL
    return CellKey(str(name), str(row["model"]), str(row["paradigm"]), control)


def _comparison(row: Mapping[str, Any]) -> Comparison:
    differences = {name: _estimate(each) for name, each in (row.get("differences") or {}).items()}
    agreement = row.get("agreement") or {}
    levels = {
        int(level): Agreement(*(int(each[f"num_{name}"]) for name in Agreement._fields))
        for level, each in (agreement.get("level_accuracy") or {}).items()
    }
    return Comparison(
        a=_key(row["a"], row["dataset"]),
        b=_key(row["b"], row["dataset"]),
        differences={name: each for name, each in differences.items() if each is not None},
        levels=dict(sorted(levels.items())),
        p_value=((agreement.get("hca") or {}).get("mcnemar") or {}).get("p_value"),
    )


def _estimate(value: Any) -> Estimate | None:
    if not isinstance(value, Mapping) or value.get("value") is None:
        return None
    return Estimate(float(value["value"]), float(value["low"]), float(value["high"]))


_COLUMNS = ("dataset", "model", "paradigm", "sample_id", "level", "rank", "truth", "prediction")


def _read_predictions(path: Location) -> pa.Table | None:
    if not path.exists():
        return None
    with path.open("rb") as content:
        file = pq.ParquetFile(content)
        control = ["control"] if "control" in file.schema_arrow.names else []  # newer files
        table = file.read([*_COLUMNS, *control])
    if control:
        table = table.filter(pc.equal(table["control"], NO_CONTROL))
    is_right = pc.fill_null(pc.equal(table["prediction"], table["truth"]), False)
    unknown = pa.scalar(None, pa.bool_())
    correct = pc.if_else(pc.is_null(table["truth"]), unknown, is_right)
    return table.select(_COLUMNS).append_column("correct", correct)


def _read_config(path: Location) -> RunConfig | None:
    try:
        return load_config(path) if path.exists() else None
    except ConfigError as error:
        logger.warning("the report goes without the config and the pictures: %s", error)
        return None
