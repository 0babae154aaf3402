"""Print tables, and the shards that are left of stages that are not finished."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sekd.pipeline.runner import Outcome
    from sekd.report.headline import Headline
    from sekd.report.table import Table


def print_table(table: Table) -> None:
    """Print a table to standard output."""
    from rich.console import Console

    from sekd.report.writers import to_terminal

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=160)  # a pipe has no width
    console.print(to_terminal(table, console.width))


def print_headline(headline: Headline) -> None:
    """Print the first screen of a report to standard output."""
    from sekd.report.headline_text import format_headline

    click.echo(format_headline(headline, min(get_terminal_size().columns, 80)))


def print_incomplete(outcomes: Sequence[Outcome], as_json: bool) -> None:
    """Say which shards of which stage are left; JSON is printed of the first stage alone."""
    for outcome in outcomes[:1] if as_json else outcomes:
        name, num_shards = outcome.stage.name, len(outcome.stage.plan)
        if as_json:
            failed = {str(shard): error for shard, error in outcome.failed.items()}
            click.echo(json.dumps({"stage": name, "num_shards": num_shards, "failed": failed}))
            continue
        shard, error = next(iter(outcome.failed.items()))
        hint = "run the same command again to retry them"
        if len(outcome.exhausted) == len(outcome.failed):
            hint = "their attempts are used up; --retry-failed grants them more"
        click.echo(
            f"{name}: {len(outcome.failed)} of {num_shards} shards are left (shard {shard}: "
            f"{error}); {hint}",
            err=True,
        )
