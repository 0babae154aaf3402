"""Compute the results of an evaluation from the rows of its finished cells."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow.compute as pc

from sekd.analysis.cell_key import PARADIGMS, CellKey, solver_key
from sekd.analysis.cells import CellResult, CellRows
from sekd.analysis.comparison import compare_paths
from sekd.analysis.cost import relate_to_base
from sekd.analysis.diagnosis import diagnose
from sekd.analysis.estimates import Estimate, MetricValues
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.question_shares import QuestionShares
from sekd.analysis.ranks import rank_accuracy
from sekd.analysis.rates import compute_metrics
from sekd.analysis.results import CellComparison, Evaluation
from sekd.analysis.roles import student_and_teacher
from sekd.analysis.solver import solve
from sekd.config import BASE, STUDENT, EvaluateSpec
from sekd.data.predictions import to_table
from sekd.data.samples import Dataset, questions_of
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError, SampleError


def solve_options(dataset: Dataset, seed: int) -> CellRows:
    """Return the control ``taxonomy``: a solver that sees the options and no image."""
    samples, num_unusable = [], 0
    for sample in dataset.samples:
        try:
            samples.append((sample.id, questions_of(dataset, sample) or ()))
        except SampleError:
            num_unusable += 1
    solved = solve(samples, dataset=dataset.name, seed=seed)
    rows = [replace(row, control="taxonomy") for row in solved]
    return CellRows(solver_key(dataset.name), dataset.taxonomy, to_table(rows), num_unusable, None)


def summarize(
    cells: Sequence[CellRows],
    spec: EvaluateSpec,
    distilled: Taxonomy,
    trained_on: Mapping[str, int] | None = None,
) -> Evaluation:
    """Compute every metric of every cell, and compare the student with the base.

    Args:
        distilled: the taxonomy that the student learned; a dataset with other nodes is zero-shot.
        trained_on: dataset -> the number of its images that the student was trained on.

    Raises:
        ConfigError: if a cell has no sample left.
    """
    for cell in cells:
        _refuse_empty(cell)
    by_key = {cell.key: cell for cell in cells}
    costs = relate_to_base({cell.key: cell.cost for cell in cells if cell.cost is not None})
    learned = {node.id for node in distilled.nodes}
    results = [
        CellResult(
            key=cell.key,
            is_zero_shot=any(node.id not in learned for node in cell.taxonomy.nodes),
            num_quarantined=cell.num_quarantined,
            cost=costs.get(cell.key),
            metrics=measure_cell(cell, spec),
            diagnosis=diagnose(cell.paths, cell.rows, cell.scaling),
            plain=_measure_plain(cell, by_key, spec),
            ranks=rank_accuracy(cell.paths),
            num_trained_on=(trained_on or {}).get(cell.key.dataset, 0),
            questions=QuestionShares.of(
                (batch["options"], batch["truth"]) for batch in cell.scored.to_batches()
            ),
        )
        for cell in cells
    ]
    return Evaluation(
        cells={result.key: result for result in results},
        comparisons=list(_compare_cells(cells, spec)),
        ranks={cell.key.dataset: _ranks_of(cell.taxonomy) for cell in cells},
    )


def measure_cell(cell: CellRows, spec: EvaluateSpec) -> MetricValues[Estimate]:
    """Compute every metric of a cell.

    Of several rotations the worst counts at each level, and ``tice`` is ``None``: such a path was
    put together from several replies, and no model gave it.
    """
    values = compute_metrics(Outcomes.of(cell.paths), alpha=spec.alpha)
    if cell.has_rotations:
        return replace(values, paths={**values.paths, "tice": None})
    return values


def _measure_plain(
    cell: CellRows, by_key: Mapping[CellKey, CellRows], spec: EvaluateSpec
) -> MetricValues[Estimate] | None:
    """Measure the cell that a controlled one qualifies, over the samples of the controlled one."""
    plain = by_key.get(cell.key.uncontrolled)
    if plain is None or not cell.key.is_controlled or not len(cell.rows):
        return None
    is_shared = pc.is_in(plain.paths.sample_ids, cell.paths.sample_ids)
    shared = np.flatnonzero(is_shared.to_numpy(zero_copy_only=False))
    if not len(shared):
        return None
    return compute_metrics(Outcomes.of(plain.paths.take(shared)), alpha=spec.alpha)


def _refuse_empty(cell: CellRows) -> None:
    if not len(cell.rows):
        key = cell.key
        raise ConfigError(
            f"{key.model} {key.dataset} {key.paradigm} {key.control}: all {cell.num_quarantined} "
            "samples are quarantined; sekd status --failed says why"
        )


def _compare_cells(cells: Sequence[CellRows], spec: EvaluateSpec) -> Iterator[CellComparison]:
    by_key = {cell.key: cell for cell in cells}
    datasets = dict.fromkeys(cell.key.dataset for cell in cells)
    for key_a, key_b in chain.from_iterable(_compared(by_key, dataset) for dataset in datasets):
        a, b = by_key[key_a], by_key[key_b]
        paired = compare_paths(
            a.paths, b.paths, num_bootstrap=spec.num_bootstrap, seed=spec.seed, alpha=spec.alpha
        )
        yield CellComparison(a.key, b.key, paired)


def _compared(keys: Container[CellKey], dataset: str) -> Iterator[tuple[CellKey, CellKey]]:
    """Yield which cells are compared, to see what the student gained, kept or forgot.

    These are the student with its teacher, and with the base in each paradigm.
    """
    yield from student_and_teacher(keys, dataset)
    for paradigm in PARADIGMS:
        pair = CellKey(dataset, STUDENT, paradigm), CellKey(dataset, BASE, paradigm)
        if pair[0] in keys and pair[1] in keys:
            yield pair


def _ranks_of(taxonomy: Taxonomy) -> Mapping[int, str]:
    """Return level -> rank of the nodes there, without the root."""
    return {node.depth: node.rank for node in taxonomy.nodes if node.depth}
