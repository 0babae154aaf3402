"""Teach without labels on the drawn world: what a descent and its student get, over several seeds.

    python benchmarks/unlabelled.py --output runs/unlabelled [--seeds 0 1 2] [--jobs 3]

Each seed draws other images, removes the labels of the training images (their files are numbered,
and no class is named anywhere), and runs the ordinary commands: the base descends the taxonomy of
`seen`, its paths become labels, a student learns the quiz and open naming from them, and both are
evaluated on labelled images of `seen` and, with names that the student never met, of `unseen`. The
last lines give HCA in percent with its 95 % interval, the student minus the base with the paired
interval, and mean and standard deviation over the seeds. They are also in OUTPUT/unlabelled.md and,
for machines, OUTPUT/unlabelled.json; the run of a seed, with its metrics.json, is OUTPUT/<seed>.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sekd import api
from sekd.analysis.cell_key import CellKey
from sekd.analysis.results import Evaluation
from sekd.config import RunConfig
from sekd.data import toyworld
from sekd.data.taxonomy import Taxonomy

PARADIGMS = ("descent", "open", "joint_forced", "joint")
STAGES = {"elicit": api.elicit, "distill": api.distill, "evaluate": api.evaluate}
COLUMNS = ("base", "student", "difference")


@dataclass(frozen=True)
class Settings:
    """The settings of the run of one seed."""

    seed: int
    folder: Path
    num_train: int
    num_test: int
    epochs: float
    global_batch: int
    num_threads: int
    paradigms: tuple[str, ...]


def draw_unlabelled(settings: Settings) -> dict[str, str]:
    """Draw the world, and a table of the training images without labels; return image -> leaf."""
    world = settings.folder / "world"
    toyworld.write_world(
        world, num_train=settings.num_train, num_test=settings.num_test, seed=settings.seed
    )
    truths: dict[str, str] = {}
    images = sorted((world / "train/images").rglob("*.png"), key=lambda path: path.name)
    with (world / "train/images.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image"])
        for image in images:
            truths[image.name] = image.parent.name
            image.rename(world / "train" / image.name)
            writer.writerow([image.name])
    return truths


def overrides(settings: Settings) -> Iterator[str]:
    """Yield what differs from the config that was drawn, as arguments of ``--set``."""
    train = settings.folder / "world/train"
    ranks = ", ".join(toyworld.RANKS)
    yield f"run_dir={settings.folder}"
    yield (
        f"data.train={{table: {train}/images.csv, taxonomy: {train}/taxonomy.json, "
        f"level_names: [{ranks}], options: children}}"
    )
    yield "distill.formats=[quiz, open]"
    yield f"distill.epochs={settings.epochs}"
    yield f"distill.global_batch={settings.global_batch}"
    yield f"evaluate.paradigms=[{', '.join(settings.paradigms)}]"
    yield "evaluate.controls=[]"


def run_seed(settings: Settings) -> dict[str, Any]:
    """Run all stages of a seed; return its figures."""
    import torch

    torch.set_num_threads(settings.num_threads)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s seed {settings.seed}: %(message)s")
    truths = draw_unlabelled(settings)
    config = api.load_config(settings.folder / "world/config.yaml", list(overrides(settings)))
    seconds = {}
    for name, stage in STAGES.items():
        started = time.monotonic()
        stage(config)
        seconds[name] = time.monotonic() - started
    evaluation = Evaluation.read(config.run_dir)
    return {
        "seed": settings.seed,
        "right_labels": share_of_right_labels(config, truths),
        "rates": list(rates(evaluation, settings.paradigms)),
        "seconds": seconds,
    }


def share_of_right_labels(config: RunConfig, truths: dict[str, str]) -> float:
    """Return the percentage of training images whose whole path the descent has right."""
    taxonomy = Taxonomy.load(config.data["train"].taxonomy, level_names=toyworld.RANKS)
    table = pq.read_table(config.run_dir / "labels-train.parquet", columns=["sample_id", "label"])
    labels = zip(table["sample_id"].to_pylist(), table["label"].to_pylist(), strict=True)
    num_right = sum(taxonomy[label].name == truths[sample_id] for sample_id, label in labels)
    return 100 * num_right / len(truths)


def rates(evaluation: Evaluation, paradigms: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each dataset and paradigm: base, student, and their paired difference."""
    for dataset in evaluation.datasets:
        for paradigm in paradigms:
            base, student = (CellKey(dataset, model, paradigm) for model in ("base", "student"))
            comparison = evaluation.find_comparison(student, base)
            assert comparison is not None
            yield {
                "dataset": dataset,
                "paradigm": paradigm,
                "base": evaluation.cells[base].rate("hca").to_json(),
                "student": evaluation.cells[student].rate("hca").to_json(),
                "difference": comparison.paired.differences.paths["hca"].to_json(),
                "unparsed": {
                    key.model: evaluation.cells[key].rate("parse_failure_rate").value
                    for key in (base, student)
                },
            }


def write_table(results: Sequence[dict[str, Any]]) -> str:
    """Write one line for each dataset, paradigm and seed, and one for each mean."""
    lines = [
        "| dataset | asked by | seed | base HCA | student HCA | difference | unparsed |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    groups = defaultdict(list)
    for result in results:
        for row in result["rates"]:
            groups[row["dataset"], row["paradigm"]].append((result["seed"], row))
    for (dataset, paradigm), rows in groups.items():
        values = defaultdict(list)
        for seed, row in rows:
            cells = []
            for column in COLUMNS:
                estimate = row[column]
                values[column].append(estimate["value"])
                cells.append("{value:.1f} ({low:.1f} to {high:.1f})".format_map(estimate))
            unparsed = f"{row['unparsed']['base']:.1f}, {row['unparsed']['student']:.1f}"
            lines.append(f"| {dataset} | {paradigm} | {seed} | {' | '.join(cells)} | {unparsed} |")
        means = " | ".join(mean_and_spread(values[column]) for column in COLUMNS)
        lines.append(f"| {dataset} | {paradigm} | all | {means} | |")
    labels = mean_and_spread([result["right_labels"] for result in results])
    lines += ["", f"Training images whose whole path the descent has right: {labels} %."]
    return "\n".join(lines) + "\n"


def mean_and_spread(values: Sequence[float]) -> str:
    """Write the mean and, of several values, their standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="number of seeds that run at once")
    parser.add_argument("--train-images", type=int, default=2000)
    parser.add_argument("--test-images", type=int, default=400, help="of each taxonomy")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--global-batch", type=int, default=16)
    parser.add_argument("--paradigms", nargs="+", default=PARADIGMS)
    options = parser.parse_args()
    num_cores = len(os.sched_getaffinity(0))
    settings = [
        Settings(
            seed=seed,
            folder=options.output / str(seed),
            num_train=options.train_images,
            num_test=options.test_images,
            epochs=options.epochs,
            global_batch=options.global_batch,
            num_threads=max(1, num_cores // options.jobs),
            paradigms=tuple(options.paradigms),
        )
        for seed in options.seeds
    ]
    options.output.mkdir(parents=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool:
        results = list(pool.map(run_seed, settings))
    (options.output / "unlabelled.json").write_text(json.dumps(results, indent=1), "utf-8")
    table = write_table(results)
    (options.output / "unlabelled.md").write_text(table, "utf-8")
    print(table)


if __name__ == "__main__":
    main()
