"""``sekd report``: a finished evaluation as one HTML page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.output import print_headline
from sekd.commands.run_command import run_command

if TYPE_CHECKING:
    from sekd.io.locations import Location


@click.command("report")
@click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")
@run_command
def report_command(run: Location, as_json: bool) -> int:
    """Write RUN/report.html, which shows what was gained, what it cost and what was lost.

    The page is one file that needs no network. It has figures, charts, and single images with the
    answers to them. Its first screen is printed, too. Its tables are also written to RUN/report/ as
    Markdown, CSV and LaTeX. RUN is the run_dir of a finished sekd evaluate.

    \b
    Example:
        sekd report runs/birds
    """
    from sekd import api

    files = api.report(run)
    if as_json:
        tables = [str(path) for path in files.tables]
        click.echo(json.dumps({"report": str(files.page), "tables": tables}))
    else:
        print_headline(files.headline)
        click.echo(f"\nreport: {files.page}\ntables: {run / 'report'}")
    return 0
