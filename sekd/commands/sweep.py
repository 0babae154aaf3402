"""``sekd sweep``: the ablation of the paper in one command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command, retry_failed_option
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.command("sweep")
@retry_failed_option
@config_command("sweep")
def sweep_command(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Train and evaluate the variants of the config section sweep, side by side.

    Without that section the variants are the paper's ablation of the loss and two baselines of
    plain fine-tuning. The command writes table.md, table.csv and plot.png into the run's folder
    sweep. Students that are trained are not trained again. So the same command resumes, and adds
    new variants and seeds.

    \b
    Example:
        sekd sweep configs/qwen2.5-vl-7b.yaml --set sweep.seeds=[0,1,2]
        sekd sweep my.yaml --set sweep.variants.small.lora.rank=16
    """
    from sekd import api
    from sekd.report.sweep_table import sweep_table

    done = api.sweep(config, retry_failed=retry_failed)
    if as_json:
        click.echo(json.dumps(done.to_json()))
    else:
        print_table(sweep_table(done))
        click.echo(f"table and plot: {config.run_dir / 'sweep'}")
        for name, reason in done.failed.items():
            click.echo(f"{name} failed: {reason}", err=True)
    return not done.failed
