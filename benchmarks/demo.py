"""Tables over several finished runs of `make demo`, one for each seed.

    for seed in 0 1 2; do make demo SEED=$seed; mv runs/demo runs/demo-$seed; done
    python benchmarks/demo.py runs/demo-0 runs/demo-1 runs/demo-2

For each way of asking: HCA in percent of base and student with its 95 % interval, the student minus
the base with the paired interval, mean and standard deviation over the runs; then the seconds of an
image, of many at once and of one alone, as the median of the runs with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from sekd.analysis.cell_key import CellKey
from sekd.analysis.estimates import Estimate
from sekd.analysis.results import Evaluation
from sekd.data.taxonomy import Taxonomy
from sekd.data.toyworld import RANKS

MODELS = ("base", "student")


def share_of_right_labels(run: Path) -> float:
    """Return the percentage of photographs whose whole path the descent has right."""
    taxonomy = Taxonomy.load(run / "world/train/taxonomy.json", level_names=RANKS)
    labels = pq.read_table(run / "labels-photographs.parquet", columns=["sample_id", "label"])
    # A photograph's folder has the name of its leaf, which nothing but this function looks at.
    leaves = [Path(sample_id).parent.name for sample_id in labels["sample_id"].to_pylist()]
    names = [taxonomy[node].name for node in labels["label"].to_pylist()]
    return 100 * sum(map(str.__eq__, names, leaves)) / len(leaves)


def rate(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"


def mean_and_spread(values: Sequence[float]) -> str:
    """Write the mean and, of several values, their standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def median_and_range(values: Sequence[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def rate_lines(
    evaluations: Sequence[Evaluation], dataset: str, paradigm: str, control: str
) -> Iterator[str]:
    """Write a line for each run, and one for their mean; under a control nothing is compared."""
    base, student = (CellKey(dataset, model, paradigm, control) for model in MODELS)
    asked = f"{paradigm}, {control}" if base.is_controlled else paradigm
    values: list[list[float]] = []
    for number, evaluation in enumerate(evaluations):
        cells = [evaluation.cells[key] for key in (base, student)]
        comparison = evaluation.find_comparison(student, base)
        estimates = [cell.rate("hca") for cell in cells]
        estimates += [comparison.paired.differences.rate("hca")] if comparison else []
        found = [each for each in estimates if each is not None]
        unread = [cell.rate("parse_failure_rate") for cell in cells]
        unparsed = ", ".join("-" if each is None else f"{each.value:.1f}" for each in unread)
        values.append([each.value for each in found])
        rates = " | ".join([*map(rate, found), "-"][:3])
        yield f"| {dataset} | {asked} | {number} | {rates} | {unparsed} |"
    means = " | ".join([*map(mean_and_spread, zip(*values, strict=True)), "-"][:3])
    yield f"| {dataset} | {asked} | all | {means} | |"


def cost_line(evaluations: Sequence[Evaluation], paradigm: str, model: str) -> str:
    costs = [
        cell.cost
        for evaluation in evaluations
        for dataset in evaluation.datasets
        if (cell := evaluation.cells[CellKey(dataset, model, paradigm)]).cost is not None
    ]
    together = median_and_range([1000 * cost.seconds for cost in costs], 1)
    alone = median_and_range([1000 * cost.latency for cost in costs if cost.latency], 0)
    tokens = statistics.median(cost.computed_tokens for cost in costs)
    return f"| {paradigm} | {model} | {together} | {alone} | {tokens:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs of `make demo`")
    runs = parser.parse_args().runs
    evaluations = [Evaluation.read(run) for run in runs]
    cells = evaluations[0].cells
    groups = dict.fromkeys((key.dataset, key.paradigm, key.control) for key in cells)
    print("| dataset | asked by | run | base HCA | student HCA | difference | unparsed |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for dataset, paradigm, control in groups:
        print(*rate_lines(evaluations, dataset, paradigm, control), sep="\n")
    labels = mean_and_spread([share_of_right_labels(run) for run in runs])
    print(f"\nPhotographs whose whole path the descent has right: {labels} %.\n")
    print("| asked by | model | ms an image | ms, one image alone | tokens computed |")
    print("| --- | --- | ---: | ---: | ---: |")
    for paradigm in dict.fromkeys(key.paradigm for key in cells):
        print(*(cost_line(evaluations, paradigm, model) for model in MODELS), sep="\n")


if __name__ == "__main__":
    main()
