"""``sekd verify``: whether every file of a run is what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sekd.commands import exit_codes
from sekd.commands.run_command import run_command

if TYPE_CHECKING:
    from sekd.io.locations import Location


@click.command("verify")
@run_command
def verify_command(run: Location) -> int:
    """Hash and reopen every file of the run in RUN; the next run repeats what is damaged.

    Exit code 0: every file is what was written. 3: some file is not.

    \b
    Example:
        sekd verify runs/birds
    """
    from sekd.pipeline.verify import verify_run

    num_damaged = 0
    for damage in verify_run(run):
        num_damaged += 1
        click.echo(str(damage))
    if num_damaged:
        click.echo(f"{num_damaged} damaged; the command that made them repairs them", err=True)
        return exit_codes.FAILURES
    click.echo("everything is what was written", err=True)
    return 0
