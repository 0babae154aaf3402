"""``sekd evaluate``: models under the paradigms and controls, with every metric."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command, retry_failed_option, worker_options
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig

logger = logging.getLogger(__name__)


@click.command()
@retry_failed_option
@worker_options("evaluate")
@config_command("evaluate")
def evaluate(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Last stage: measure models under the three paradigms and controls, with every metric.

    The models are the base, the finished student and those of evaluate.models. The command writes
    metrics.json, metrics.md and predictions.parquet into the run directory. Cells that are done
    are not run again. So the same command resumes, and adds new paradigms, controls, datasets and
    models.

    \b
    Example:
        sekd evaluate configs/cub200-qwen2.5-vl-7b.yaml --set evaluate.limit=500
        sekd evaluate my.yaml --set evaluate.models.other.adapter=runs/x/distill/abc/adapter
    """
    from sekd.report.tables import cells_table
    from sekd.stages.distill.run import finished_adapter
    from sekd.stages.evaluate.run import run_evaluation

    student = finished_adapter(config)
    if student is None:
        logger.info("no finished student for this config: evaluating without one")
    done = run_evaluation(config, student, config.run_dir, retry_failed=retry_failed)
    if as_json:
        click.echo(json.dumps(done.evaluation.to_json()))
    else:
        print_table(cells_table(done.evaluation))
        click.echo(f"metrics: {config.run_dir / 'metrics.json'}")
    return True
