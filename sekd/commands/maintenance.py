"""Commands that look after a run's files and know no model: status, verify, gc."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.io.locations import Location
    from sekd.pipeline.status import StageStatus

EXIT_INCOMPLETE, EXIT_CONFIG, EXIT_FAILURES = 1, 2, 3


def run_command(command: Callable[..., int]) -> Callable[..., None]:
    """The argument RUN, in front of others; ``command`` returns the exit code."""

    @click.argument("run")
    @wraps(command)
    def wrapped(run: str, **options: Any) -> None:
        from sekd.io.files import names_in
        from sekd.io.locations import to_location

        try:
            place = to_location(run)
            if not names_in(place):
                click.echo(f"sekd: {run}: no run there; give a config's run_dir", err=True)
                sys.exit(EXIT_CONFIG)
            sys.exit(command(place, **options))
        except ConfigError as error:
            click.echo(f"sekd: {error}", err=True)
            sys.exit(EXIT_CONFIG)
        except (OSError, ImportError, ValueError) as error:
            click.echo(f"sekd: {run}: {error}", err=True)
            sys.exit(EXIT_CONFIG)

    return wrapped


@click.command()
@click.option("--failed", is_flag=True, help="List every failed shard and quarantined sample.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@run_command
def status(run: Location, failed: bool, as_json: bool) -> int:
    """How the run at RUN (a run_dir) stands.

    Exit code 0: everything is done. 1: something is left. 3: shards failed or were lost.

    \b
    Example:
        sekd status runs/birds --failed
    """
    from sekd.pipeline.status import run_status

    stages = run_status(run)
    if as_json:
        click.echo(json.dumps([asdict(stage) for stage in stages]))
    else:
        for stage in stages:
            _show(stage, in_full=failed)
    if any(stage.errors for stage in stages):
        return EXIT_FAILURES
    return 0 if stages and all(stage.is_complete for stage in stages) else EXIT_INCOMPLETE


def _show(stage: StageStatus, *, in_full: bool) -> None:
    shards = ", ".join(f"{count} {status}" for status, count in sorted(stage.shards.items()))
    rate = f"; {stage.rate:.3g} samples/s per worker" if stage.rate else ""
    if stage.seconds_left and not stage.is_complete:
        rate += f", {stage.seconds_left:.0f} s left"
    click.echo(
        f"{stage.name}: {stage.num_done} done and {stage.num_quarantined} quarantined of "
        f"{stage.num_planned} samples; shards: {shards}{rate}\n  {stage.directory}"
    )
    for change in stage.changes:
        click.echo(f"  differs from the directory before it in {change}")
    _list(
        [f"shard {e['shard']}: {e['error']} (attempt {e['attempt']}, log {e['log']})"
         for e in stage.errors],
        in_full=in_full,
    )  # fmt: skip
    if in_full:
        _list([f"{q['sample_id']}: {q['reason']}" for q in stage.quarantined], in_full=True)


def _list(lines: Sequence[str], *, in_full: bool) -> None:
    shown = lines if in_full else lines[-3:]
    for line in shown:
        click.echo(f"  {line}")
    if len(shown) < len(lines):
        click.echo(f"  and {len(lines) - len(shown)} more: sekd status --failed")


@click.command()
@run_command
def verify(run: Location) -> int:
    """Hash and reopen every file of the run at RUN; what is damaged is done again by the next run.

    Exit code 0: everything is what was written. 3: something is not.

    \b
    Example:
        sekd verify runs/birds
    """
    from sekd.pipeline.status import stage_directories
    from sekd.pipeline.verify import verify_stage

    num_damaged = 0
    for _, directory in stage_directories(run):
        for damage in verify_stage(directory):
            num_damaged += 1
            click.echo(f"{damage.path}: {damage.reason}")
    if num_damaged:
        click.echo(f"{num_damaged} damaged; the command that made them mends them", err=True)
        return EXIT_FAILURES
    click.echo("everything is what was written", err=True)
    return 0


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@run_command
def gc(run: Location, dry_run: bool) -> int:
    """Free what no record of the run at RUN makes count: files of failed and dead attempts.

    \b
    Example:
        sekd gc runs/birds --dry-run
    """
    from sekd.io.files import remove
    from sekd.pipeline.garbage import find_garbage
    from sekd.pipeline.status import stage_directories

    garbage = [each for _, place in stage_directories(run) for each in find_garbage(place)]
    for each in garbage:
        click.echo(f"{each.num_bytes:>15,} bytes  {each.path}")
    total = sum(each.num_bytes for each in garbage)
    click.echo(f"{len(garbage)} files and folders, {total:,} bytes", err=True)
    if not dry_run:
        for each in garbage:
            remove(each.path)
    return 0
