"""``sekd evaluate``: base and student under the paradigms, with every metric."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands.running import (
    hash_images,
    on_workers,
    over_config,
    report_incomplete,
    run_settings,
)

if TYPE_CHECKING:
    from sekd.config import RunConfig

logger = logging.getLogger(__name__)


@click.command()
@on_workers
@over_config
def evaluate(config: RunConfig, as_json: bool) -> bool:
    """Last stage: base and student under the three paradigms, with every metric.

    Writes metrics.json, metrics.md and predictions.parquet into the run's directory. Without a
    finished student the base is evaluated alone.

    \b
    Example:
        sekd evaluate configs/cub200-qwen2.5-vl-7b.yaml --set evaluate.limit=500
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from rich.console import Console

    from sekd.data.predictions import PREDICTIONS, read_predictions
    from sekd.data.samples import Dataset
    from sekd.pipeline.files import write_atomically
    from sekd.pipeline.plan import Plan
    from sekd.pipeline.runner import run_stage
    from sekd.pipeline.stage import Stage
    from sekd.stages.evaluate.paradigms import PredictionsWorker, predictions_fields
    from sekd.stages.evaluate.report import metrics_row
    from sekd.stages.report.formats import to_markdown, to_terminal
    from sekd.stages.report.results import Cell
    from sekd.stages.report.tables import cells_table

    spec = config.evaluate
    models: dict[str, Path | None] = {"base": None}
    adapter = _finished_adapter(config)
    if adapter is not None:
        models["student"] = adapter
    else:
        logger.info("no finished student for this config: evaluating the base alone")
    tables: list[pa.Table] = []
    metrics: list[dict[str, Any]] = []
    ranks: dict[str, dict[int, str]] = {}
    for name in spec.datasets:
        dataset = Dataset.load(name, config.dataset(name, "evaluate.datasets"))
        dataset = dataset.first(spec.limit) if spec.limit else dataset
        ids, images = dataset.samples.ids.to_pylist(), hash_images(dataset)
        for model, its_adapter in models.items():
            outcome = run_stage(
                Stage.open(
                    config.run_dir / "predictions" / f"{name}-{model}",
                    predictions_fields(config, dataset, images, its_adapter),
                    partial(Plan.split, ids, spec.runtime.shard_size),
                ),
                partial(PredictionsWorker, config, dataset, model, its_adapter),
                **run_settings(spec.runtime),
            )
            if outcome.manifest is None:
                return report_incomplete(outcome, as_json)
            table = read_predictions(list(outcome.manifest.files(PREDICTIONS).values()))
            tables.append(table)
            for paradigm in spec.paradigms:
                rows = table.filter(pc.field("paradigm") == paradigm)
                names = {
                    "model": model,
                    "dataset": name,
                    "paradigm": paradigm,
                    "num_quarantined": len(outcome.manifest.quarantined),
                }
                metrics.append(metrics_row(rows, dataset.taxonomy, spec, names))
        ranks[name] = {node.depth: node.rank for node in dataset.taxonomy.nodes if node.depth}
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables), buffer)
    write_atomically(config.run_dir / "predictions.parquet", buffer.getvalue().to_pybytes())
    content = {"rows": metrics, "root_is_scored": False}
    write_atomically(config.run_dir / "metrics.json", json.dumps(content, indent=1) + "\n")
    table_of_cells = cells_table(map(Cell.of, metrics), ranks)
    write_atomically(config.run_dir / "metrics.md", to_markdown(table_of_cells))
    if as_json:
        click.echo(json.dumps(content))
    else:
        console = Console()
        if not console.is_terminal:  # a pipe has no width, and a folded table cannot be read
            console = Console(width=160)
        console.print(to_terminal(table_of_cells))
        click.echo(f"metrics: {config.run_dir / 'metrics.json'}")
    return True


def _finished_adapter(config: RunConfig) -> Path | None:
    """The newest adapter that was trained under this config."""
    from sekd.pipeline.folders import find_folder
    from sekd.pipeline.stage import directories
    from sekd.stages.distill.train import distill_spec

    for directory in directories(config.run_dir / "distill", distill_spec(config)):
        adapter = find_folder(directory, "adapter")
        if adapter is not None:
            return adapter
    return None
