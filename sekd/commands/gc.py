"""``sekd gc``: free the space that failed and dead attempts take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sekd.commands.run_command import run_command

if TYPE_CHECKING:
    from sekd.io.locations import Location


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and delete nothing.")
@run_command
def gc_command(run: Location, dry_run: bool) -> int:
    """Delete what failed attempts and dead processes left of the run in RUN.

    No record refers to it: the files of attempts that are not done, and files that a killed process
    had half written or half removed, in the run and in the cache.

    \b
    Example:
        sekd gc runs/birds --dry-run
    """
    from sekd.io.files import remove
    from sekd.pipeline.garbage import find_garbage

    garbage = list(find_garbage(run))
    for each in garbage:
        click.echo(f"{each.num_bytes:>15,} bytes  {each.path}")
    total = sum(each.num_bytes for each in garbage)
    click.echo(f"{len(garbage)} files and folders, {total:,} bytes", err=True)
    if not dry_run:
        for each in garbage:
            remove(each.path)
    return 0
