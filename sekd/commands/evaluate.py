"""``sekd evaluate``: models under the paradigms and controls, with every metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import (
    config_command,
    retry_failed_option,
    setting_option,
    worker_options,
)
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.command("evaluate")
@click.option("--show-controls", is_flag=True, help="Print the table of controls too.")
@setting_option(
    "--limit",
    "elicit.limit",
    "evaluate.limit",
    type=int,
    metavar="N",
    help="Try the student of the first N images (elicit.limit) on N of each dataset.",
)
@retry_failed_option
@worker_options("evaluate")
@config_command("evaluate")
def evaluate_command(
    config: RunConfig, as_json: bool, retry_failed: bool, show_controls: bool
) -> bool:
    """Last stage: measure models under the three paradigms and controls, with every metric.

    The models are the base, the finished student and those of evaluate.models. The command writes
    metrics.json, metrics.md and predictions.parquet into the run directory. Cells that are done
    are not run again. So the same command resumes, and adds new paradigms, controls, datasets and
    models.

    \b
    Example:
        sekd evaluate configs/qwen2.5-vl-7b.yaml --set evaluate.limit=500
        sekd evaluate my.yaml --set evaluate.models.other.adapter=ADAPTER
    """
    from sekd import api
    from sekd.report.tables import cells_table, controls_table

    evaluation = api.evaluate(config, retry_failed=retry_failed)
    if as_json:
        click.echo(json.dumps(evaluation.to_json()))
    else:
        print_table(cells_table(evaluation))
        controls = controls_table(evaluation)
        if show_controls and controls.has_figures:
            print_table(controls)
        elif controls.has_figures:
            num = len(controls.rows)
            click.echo(f"{num} rows of controls: --show-controls prints them, as does sekd report")
        click.echo(f"metrics: {config.run_dir / 'metrics.json'}")
    return True
