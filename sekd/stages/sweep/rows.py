"""What a sweep comes to: variant by variant and dataset by dataset, over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from sekd.config import BASE
from sekd.stages.evaluate.metrics import Estimate
from sekd.stages.report.results import Results
from sekd.stages.report.table import Column, Table, Value, group_sizes
from sekd.stages.sweep.students import Student

_FORGOTTEN = ("conditioned", "independent")
"""Paradigms that no student is trained for, beside replay: what it lost there is forgetting."""

_REFERENCES = {"base": "joint", "base, conditioned": "conditioned"}
"""What students are held against -> the paradigm that the base is asked in."""


@dataclass(frozen=True, kw_only=True)
class Row:
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


def rows_of(results: Results, students: Sequence[Student]) -> list[Row]:
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


def _row(results: Results, dataset: str, variant: str, students: Sequence[Student]) -> Row:
    there = [each for each in students if each.name in results.models]
    hca = {each.seed: results.rate(dataset, each.name, "joint") for each in there}
    unparsed = [results.rate(dataset, each.name, "joint", "parse_failure_rate") for each in there]
    forgotten = {}
    for paradigm in _FORGOTTEN:
        base = results.rate(dataset, BASE, paradigm)
        own = [results.rate(dataset, each.name, paradigm) for each in there]
        values = [each.value for each in own if each]
        if base and values:
            forgotten[paradigm] = fmean(values) - base.value
    rates = [each.value for each in unparsed if each]
    return Row(
        dataset=dataset,
        variant=variant,
        hca={seed: each for seed, each in hca.items() if each},
        num_failed=len(students) - len(there),
        parse_failure_rate=fmean(rates) if rates else None,
        forgotten=forgotten,
    )


def references(results: Results, dataset: str) -> dict[str, Estimate]:
    """What students are held against: HCA of the base asked at once, and of it as the teacher."""
    found = {name: results.rate(dataset, BASE, paradigm) for name, paradigm in _REFERENCES.items()}
    return {name: rate for name, rate in found.items() if rate}


def sweep_table(results: Results, rows: Sequence[Row]) -> Table:
    """One row per dataset and variant below the base and its teacher's walk."""
    is_single = all(len(row.hca) <= 1 for row in rows)
    lines: list[Sequence[Value]] = []
    for dataset in results.datasets:
        for name, rate in references(results, dataset).items():
            shown = rate if is_single else rate.value
            unparsed = results.rate(dataset, BASE, _REFERENCES[name], "parse_failure_rate")
            lines.append(
                [dataset, name, None, shown, None, None, unparsed and unparsed.value, *[None] * 3]
            )
        lines += [_line(row, is_single) for row in rows if row.dataset == dataset]
    spread = (
        "with its 95 % interval over images"
        if is_single
        else "the mean over seeds, the lowest and the highest"
    )
    labels = {dataset: results.title(dataset) for dataset in results.datasets}
    columns = [
        Column("dataset", "dataset", labels=labels),
        Column("variant", "variant"),
        Column("num_seeds", "seeds"),
        Column("hca", "HCA", has_interval=is_single),
        Column("hca_lowest", "lowest"),
        Column("hca_highest", "highest"),
        Column("parse_failure_rate", "unparsed"),
        *(Column(f"{each}_difference", each, is_signed=True) for each in _FORGOTTEN),
        Column("num_failed", "failed"),
    ]
    return Table(
        "sweep",
        f"Joint HCA in percent, {spread}; {' and '.join(_FORGOTTEN)}: HCA less the base's, points",
        columns,
        2,
        lines,
        group_sizes(line[0] for line in lines),
    ).shrunk()


def _line(row: Row, is_single: bool) -> list[Value]:
    rate = row.over_seeds
    spread: list[Value] = [rate, None, None]
    if rate and not is_single:
        spread = [rate.value, rate.low, rate.high]
    return [
        row.dataset,
        row.variant,
        len(row.hca),
        *spread,
        row.parse_failure_rate,
        *(row.forgotten.get(paradigm) for paradigm in _FORGOTTEN),
        row.num_failed or None,
    ]
