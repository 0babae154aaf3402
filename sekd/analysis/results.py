"""The results of an evaluation: what ``metrics.json`` holds, cell by cell.

``sekd evaluate`` makes them with :func:`sekd.analysis.summary.summarize`; ``sekd report`` reads
them from a run with :meth:`Evaluation.read`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sekd.analysis.cell_key import PARADIGMS, CellKey, solver_key
from sekd.analysis.cells import CellResult
from sekd.analysis.comparison import PairedComparison
from sekd.analysis.estimates import Estimate
from sekd.analysis.intervals import adjust_by_holm
from sekd.config import RunConfig, load_config
from sekd.data.predictions import EVALUATION, NO_CONTROL
from sekd.data.stage_record import StageRecord
from sekd.errors import ConfigError
from sekd.io.artefacts import Artefact
from sekd.io.files import names_in, read_bytes
from sekd.io.locations import Location
from sekd.io.parquet_bytes import parquet_batches
from sekd.io.records import DamagedFileError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellComparison:
    """Cell a, the student's, beside cell b over the samples that both have."""

    a: CellKey
    b: CellKey
    paired: PairedComparison

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``comparisons`` in ``metrics.json``."""
        return {
            "dataset": self.a.dataset,
            "a": {"model": self.a.model, "paradigm": self.a.paradigm},
            "b": {"model": self.b.model, "paradigm": self.b.paradigm},
            **self.paired.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CellComparison:
        """Read what :meth:`to_json` returns."""
        return cls(
            a=CellKey(content["dataset"], **content["a"]),
            b=CellKey(content["dataset"], **content["b"]),
            paired=PairedComparison.from_json(content),
        )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A finished evaluation.

    Attributes:
        cells: in the order of the evaluation.
        ranks: dataset -> level -> what the level is called.
        run: where its files are; empty before they are written.
        predictions: the rows of ``predictions.parquet`` without a control, with a column
            ``correct``, which is False where the reply could not be parsed. ``None`` if there is no
            such file.
        config: ``None`` if it is not known.
        stages: the records of the run's stages.
    """

    cells: Mapping[CellKey, CellResult]
    comparisons: Sequence[CellComparison] = ()
    ranks: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    root_is_scored: bool = False
    run: str = ""
    predictions: pa.Table | None = None
    config: RunConfig | None = None
    stages: Sequence[StageRecord] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return {
            "rows": [cell.to_json() for cell in self.cells.values()],
            "comparisons": [
                {**comparison.to_json(), "hca_p_holm": p_value}
                for comparison, p_value in zip(self.comparisons, self.holm_p_values, strict=True)
            ],
            "root_is_scored": self.root_is_scored,
        }

    @classmethod
    def read(cls, run: Location, stages: Sequence[StageRecord] = ()) -> Evaluation:
        """Read a run's ``metrics.json``, ``predictions.parquet`` and ``evaluate.config.yaml``.

        A report can do without the last two.

        Raises:
            ConfigError: if there are no metrics, or a file is damaged or of another evaluation.
        """
        _check_record(run)
        path = run / "metrics.json"
        try:
            content = json.loads(read_bytes(path))
            cells = [CellResult.from_json(row) for row in content["rows"]]
            comparisons = [CellComparison.from_json(each) for each in content["comparisons"]]
            root_is_scored = content["root_is_scored"]
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: not there; run sekd evaluate first") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: not what this version of sekd evaluate writes ({error!r}); run sekd "
                "evaluate again"
            ) from error
        if not cells:
            raise ConfigError(f"{path}: no row in it; run sekd evaluate again")
        predictions = _read_predictions(run / "predictions.parquet")
        return cls(
            cells={cell.key: cell for cell in cells},
            comparisons=comparisons,
            ranks=_most_frequent_ranks(cells, predictions),
            root_is_scored=root_is_scored,
            run=str(run),
            predictions=predictions,
            config=_read_config(run / "evaluate.config.yaml"),
            stages=stages,
        )

    @property
    def name(self) -> str:
        """The last part of the run's path."""
        return self.run.rstrip("/").rpartition("/")[2] or self.run

    @property
    def datasets(self) -> list[str]:
        """Names, in the order of the evaluation."""
        return list(dict.fromkeys(key.dataset for key in self.cells))

    @property
    def models(self) -> list[str]:
        """Names, in the order of the evaluation."""
        return list(dict.fromkeys(key.model for key in self.cells))

    def is_zero_shot(self, dataset: str) -> bool:
        """Tell whether the dataset has nodes that the student was not taught."""
        return any(cell.is_zero_shot for key, cell in self.cells.items() if key.dataset == dataset)

    def num_trained_on(self, dataset: str) -> int:
        """Return the number of a dataset's images that the student was trained on."""
        counts = [cell.num_trained_on for key, cell in self.cells.items() if key.dataset == dataset]
        return max(counts, default=0)

    def title(self, dataset: str) -> str:
        """Return a dataset's name for a person: "food (zero-shot)"."""
        return f"{dataset} (zero-shot)" if self.is_zero_shot(dataset) else dataset

    def get(
        self, dataset: str, model: str, paradigm: str, control: str = NO_CONTROL
    ) -> CellResult | None:
        """Return a cell, if it was measured."""
        return self.cells.get(CellKey(dataset, model, paradigm, control))

    def rate(self, dataset: str, model: str, paradigm: str, metric: str = "hca") -> Estimate | None:
        """Return a metric of a cell without a control, if it was measured."""
        cell = self.get(dataset, model, paradigm)
        return cell.rate(metric) if cell else None

    @property
    def plain_cells(self) -> list[CellResult]:
        """The cells without a control, of models that are shown the image."""
        return [
            cell
            for key, cell in self.cells.items()
            if key.control == NO_CONTROL and key.paradigm in PARADIGMS
        ]

    def options_alone(self, dataset: str) -> Estimate | None:
        """Return the HCA of a solver that knows the taxonomy and sees the options, but no image."""
        cell = self.cells.get(solver_key(dataset))
        return cell.rate("hca") if cell else None

    def controls_of(self, key: CellKey) -> list[CellResult]:
        """Return what qualifies a cell: the same model, dataset and paradigm under a control."""
        return [
            cell
            for other, cell in self.cells.items()
            if other.is_controlled and other.uncontrolled == key
        ]

    def find_comparison(self, a: CellKey, b: CellKey) -> CellComparison | None:
        """Return cell a minus cell b, if they were compared."""
        for comparison in self.comparisons:
            if (comparison.a, comparison.b) == (a, b):
                return comparison
        return None

    @cached_property
    def holm_p_values(self) -> Sequence[float]:
        """McNemar's p of the HCA of each comparison, corrected for the number of comparisons."""
        return adjust_by_holm(
            [comparison.paired.whole_path.mcnemar.p_value for comparison in self.comparisons]
        )

    def corrected_p(self, comparison: CellComparison) -> float:
        """Return the corrected p of one of the comparisons."""
        return self.holm_p_values[list(self.comparisons).index(comparison)]

    def level_headings(self) -> dict[int, str]:
        """Return level -> its rank where all datasets agree on it, else "L1" and so on."""
        ranks: dict[int, set[str]] = {}
        for levels in self.ranks.values():
            for level, rank in levels.items():
                ranks.setdefault(level, set()).add(rank)
        return {
            level: ranks[level].pop() if len(ranks[level]) == 1 else f"L{level}"
            for level in sorted(ranks)
        }

    def rank(self, dataset: str, level: int) -> str:
        """Return what a level of a dataset is called."""
        return self.ranks.get(dataset, {}).get(level, f"level {level}")


def _most_frequent_ranks(
    cells: Iterable[CellResult], predictions: pa.Table | None
) -> dict[str, dict[int, str]]:
    """Return dataset -> level -> rank; the most frequent rank where depths are ragged."""
    counts: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    if predictions is not None:
        groups = predictions.group_by(["dataset", "level", "rank"])
        for row in groups.aggregate([([], "count_all")]).to_pylist():
            counts[row["dataset"]][row["level"]][row["rank"]] += row["count_all"]
    for cell in cells:
        for level in cell.by_level("level_accuracy"):
            counts[cell.key.dataset][level][f"level {level}"] += 0
    return {
        dataset: {level: levels[level].most_common(1)[0][0] for level in sorted(levels)}
        for dataset, levels in counts.items()
    }


_COLUMNS = ("dataset", "model", "paradigm", "sample_id", "level", "rank", "truth", "prediction")


def _read_predictions(path: Location) -> pa.Table | None:
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return None
    columns = [*_COLUMNS, "control"]
    schema = pq.read_schema(pa.BufferReader(content))
    missing = [column for column in columns if column not in schema.names]
    if missing:
        raise ConfigError(f"{path}: no column {', '.join(missing)}; run sekd evaluate again")
    table = pa.Table.from_batches(
        parquet_batches(content, columns), pa.schema(map(schema.field, columns))
    )
    table = table.filter(pc.equal(table["control"], NO_CONTROL))
    correct = pc.fill_null(pc.equal(table["prediction"], table["truth"]), False)
    return table.select(_COLUMNS).append_column("correct", correct)


def _check_record(run: Location) -> None:
    """Check the files of an evaluation against their record; one of an early version has none.

    Raises:
        ConfigError: if a file is not what the evaluation wrote.
    """
    try:
        artefact = Artefact.read(run, EVALUATION)
        if artefact is not None:
            artefact.check()
        elif "metrics.json" in names_in(run):
            logger.info("%s: the evaluation has no record of its files to check them", run)
    except DamagedFileError as error:
        raise ConfigError(
            f"{error}; run sekd evaluate again, which asks no model again what is stored"
        ) from error


def _read_config(path: Location) -> RunConfig | None:
    try:
        return load_config(path) if path.exists() else None
    except ConfigError as error:
        logger.warning("the report is written without the config and the images: %s", error)
        return None
