"""``sekd rounds``: the student becomes the teacher, and again."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import click

from sekd.commands.options import config_command, print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig

logger = logging.getLogger(__name__)


@click.command()
@click.option("--retry-failed", is_flag=True, help="Give shards that used up their attempts more.")
@config_command
def rounds(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Elicit, distill and evaluate in turns: each student is the teacher of the next.

    As often as the config's key rounds says, at most. It stops where the joint HCA, over the images
    of all evaluate.datasets together, did not rise beyond noise; so those should not be what the
    final figures are reported on. With evaluate.datasets=[] nothing is measured, and all rounds are
    run. The first round is the run's own; the others are below its folder rounds. What is done
    stays done, so the same command resumes.

    \b
    Example:
        sekd rounds my.yaml --set rounds=3
    """
    from sekd.stages.rounds import run_rounds

    done = run_rounds(config, retry_failed=retry_failed)
    if as_json:
        click.echo(json.dumps(done.content))
        return True
    if done.table.has_figures:
        print_table(done.table)
    click.echo(f"{done.content['stopped']}\nadapter: {done.content['adapter'] or 'none'}")
    return True
