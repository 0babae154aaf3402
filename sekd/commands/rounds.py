"""``sekd rounds``: the student becomes the teacher, and again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command, retry_failed_option
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.command("rounds")
@retry_failed_option
@config_command("rounds")
def rounds_command(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Repeat elicit, distill and evaluate: each student becomes the teacher of the next round.

    The config key rounds is the largest number of rounds. They stop earlier when the joint HCA over
    the images of all evaluate.datasets did not rise by more than noise. So do not report final
    figures on these datasets. With evaluate.datasets=[] nothing is measured, and all rounds are
    run. The first round is the run itself; the others are in its folder rounds. The same command
    resumes.

    \b
    Example:
        sekd rounds my.yaml --set rounds=3
    """
    from sekd import api
    from sekd.report.rounds import rounds_table

    done = api.rounds(config, retry_failed=retry_failed)
    if as_json:
        click.echo(json.dumps(done.to_json()))
        return True
    table = rounds_table(done.rounds)
    if table.has_figures:
        print_table(table)
    click.echo(f"{done.stopped}\nadapter: {done.best.adapter or 'none'}")
    return True
