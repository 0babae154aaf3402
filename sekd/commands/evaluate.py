"""``sekd evaluate``: models under the paradigms and controls, with every metric."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sekd.commands.running import (
    finished_adapter,
    hash_images,
    on_workers,
    over_config,
    print_table,
    report_all_incomplete,
    run_settings,
)
from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.data.samples import Dataset
    from sekd.locations import Location
    from sekd.pipeline.manifest import Manifest
    from sekd.pipeline.runner import Outcome
    from sekd.stages.evaluate.cells import Cell
    from sekd.stages.evaluate.contenders import Kept
    from sekd.stages.evaluate.summary import Result
    from sekd.stages.report.results import Results
    from sekd.stages.report.table import Table

logger = logging.getLogger(__name__)


@click.command()
@click.option("--retry-failed", is_flag=True, help="Give shards that used up their attempts more.")
@on_workers
@over_config
def evaluate(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Last stage: models under the three paradigms and controls, with every metric.

    The base, the finished student and those of evaluate.models. Writes metrics.json, metrics.md and
    predictions.parquet into the run's directory. What is done stays done, so the same command
    resumes, and takes up paradigms, controls, datasets and models that were added.

    \b
    Example:
        sekd evaluate configs/cub200-qwen2.5-vl-7b.yaml --set evaluate.limit=500
        sekd evaluate my.yaml --set evaluate.models.other.adapter=runs/x/distill/abc/adapter
    """
    student = finished_adapter(config)
    if student is None:
        logger.info("no finished student for this config: evaluating without one")
    done = run_evaluate(config, student, config.run_dir, retry_failed=retry_failed)
    if isinstance(done, list):
        return report_all_incomplete(done, as_json)
    if as_json:
        click.echo(json.dumps(done.content))
    else:
        print_table(done.table)
        click.echo(f"metrics: {config.run_dir / 'metrics.json'}")
    return True


class Evaluated(NamedTuple):
    """What ``metrics.json`` holds, the table of ``metrics.md``, and the cells behind them."""

    content: dict[str, Any]
    table: Table
    results: Sequence[Result]

    @property
    def figures(self) -> Results:
        """The content, cell by cell."""
        from sekd.stages.report.results import Cell, Results

        cells = [Cell.of(row) for row in self.content["rows"]]
        return Results(run="", cells={cell.key: cell for cell in cells})


def run_evaluate(
    config: RunConfig, student: Path | None, folder: Location, *, retry_failed: bool = False
) -> Evaluated | list[Outcome]:
    """Every cell of the evaluation; what is left where some could not be finished.

    Args:
        student: the adapter that is evaluated under that name.
        folder: where metrics.json, metrics.md and predictions.parquet go. The cells themselves are
            below the run's directory, wherever these are.
    """
    from sekd.stages.evaluate.cells import cells_of
    from sekd.stages.evaluate.contenders import Kept, contenders_of
    from sekd.stages.evaluate.summary import solve_options

    spec = config.evaluate
    datasets = evaluated_datasets(config)
    cells = cells_of(config, contenders_of(config, student), datasets)
    kept = Kept() if spec.runtime.executor == "inline" else None
    try:
        done = _run_cells(
            config, cells, kept, run_settings(spec.runtime, retry_failed=retry_failed)
        )
    finally:
        if kept is not None:
            kept.close()
    incomplete = [outcome for outcome in done if outcome.manifest is None]
    if incomplete:
        return incomplete
    results = _results(cells, [outcome.manifest for outcome in done if outcome.manifest])
    if "taxonomy" in spec.controls:
        results += [solve_options(dataset, spec.seed) for dataset in datasets]
    results.sort(key=lambda result: spec.datasets.index(result.names["dataset"]))
    return _written(config, results, folder)


def evaluated_datasets(config: RunConfig) -> list[Dataset]:
    """The datasets of the evaluation, as many samples of each as it takes."""
    from sekd.data.samples import Dataset

    spec = config.evaluate
    datasets = [
        Dataset.load(name, config.dataset(name, "evaluate.datasets")) for name in spec.datasets
    ]
    return [dataset.first(spec.limit) for dataset in datasets] if spec.limit else datasets


def check_evaluation(config: RunConfig) -> None:
    """What would end an evaluation of students, said before they are trained.

    Raises:
        ConfigError: if a dataset cannot be loaded, or the joint paradigm is not measured.
    """
    if not evaluated_datasets(config):
        raise ConfigError("evaluate.datasets: none is named; give labelled images")
    if "joint" not in config.evaluate.paradigms:
        raise ConfigError("evaluate.paradigms: joint is not among them, which students learn")


def _run_cells(
    config: RunConfig, cells: Sequence[Cell], kept: Kept | None, settings: Mapping[str, Any]
) -> list[Outcome]:
    """Every cell to its end, whatever became of the others."""
    from sekd.pipeline.plan import Plan
    from sekd.pipeline.runner import run_stage
    from sekd.pipeline.stage import Stage
    from sekd.stages.elicit.answers import dataset_fields
    from sekd.stages.evaluate.cells import CellWorker, cell_fields

    fields: dict[tuple[str, int], dict[str, Any]] = {}
    outcomes = []
    for cell in cells:
        dataset = cell.dataset
        key = dataset.name, len(dataset.samples)
        if key not in fields:
            fields[key] = dataset_fields(dataset, hash_images(dataset))
        ids = dataset.samples.ids.to_pylist()
        stage = Stage.open(
            config.run_dir / "predictions" / cell.folder,
            cell_fields(config, cell, fields[key]),
            partial(Plan.split, ids, config.evaluate.runtime.shard_size),
        )
        outcomes.append(run_stage(stage, partial(CellWorker, config, cell, kept), **settings))
    return outcomes


def _results(cells: Sequence[Cell], manifests: Sequence[Manifest]) -> list[Result]:
    from sekd.data.predictions import PREDICTIONS, read_predictions
    from sekd.stages.evaluate.cost import FIGURES, mean_cost
    from sekd.stages.evaluate.summary import Result

    return [
        Result(
            names=cell.names,
            taxonomy=cell.dataset.taxonomy,
            rows=read_predictions(list(manifest.files(PREDICTIONS).values())),
            num_quarantined=len(manifest.quarantined),
            cost=mean_cost({f: manifest.figures(f) for f in FIGURES}, manifest.num_samples),
        )
        for cell, manifest in zip(cells, manifests, strict=True)
    ]


def _written(config: RunConfig, results: Sequence[Result], folder: Location) -> Evaluated:
    """What the cells come to, also in the folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sekd.data.taxonomy import Taxonomy
    from sekd.pipeline.files import write_atomically
    from sekd.stages.evaluate.summary import summarize
    from sekd.stages.report.formats import to_markdown
    from sekd.stages.report.results import Cell
    from sekd.stages.report.tables import cells_table

    learned = config.dataset(config.elicit.dataset, "elicit.dataset")
    distilled = Taxonomy.load(learned.taxonomy, level_names=learned.level_names)
    content = summarize(results, config.evaluate, distilled)
    ranks = {
        result.names["dataset"]: {n.depth: n.rank for n in result.taxonomy.nodes if n.depth}
        for result in results
    }
    table = cells_table(map(Cell.of, content["rows"]), ranks)
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([result.rows for result in results]), buffer)
    write_atomically(folder / "predictions.parquet", buffer.getvalue().to_pybytes())
    write_atomically(folder / "metrics.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / "metrics.md", to_markdown(table))
    return Evaluated(content, table, results)
