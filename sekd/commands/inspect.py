"""``sekd inspect``: the teacher's questions, answers and stored signals."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sekd.commands.run_command import run_command

if TYPE_CHECKING:
    from sekd.io.locations import Location


@click.command("inspect")
@run_command
@click.argument("sample", required=False)
@click.option(
    "--html", "page_path", type=click.Path(path_type=Path), help="Write an HTML page to this file."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect_command(
    run: Location, sample: str | None, page_path: Path | None, as_json: bool
) -> int:
    """Show the teacher's answers in RUN: those of one SAMPLE, or a summary of all levels.

    Only shards that are done are shown; the run need not be finished.

    \b
    Example:
        sekd inspect runs/birds
        sekd inspect runs/birds herring_gull/17.jpg --html gull.html
    """
    from rich.console import Console

    from sekd import api
    from sekd.report.inspect.page import render_inspection
    from sekd.report.inspect.text import render_run, render_sample

    answers = api.inspect(run)
    if sample is not None:
        views, overview = [answers.sample(sample)], None
    else:
        overview = answers.overview()
        views = [answers.sample(each) for each in overview.least_confident] if page_path else []
    if page_path is not None:
        title = sample or f"{overview.num_samples if overview else 0} samples elicited"
        page_path.write_text(render_inspection(title, overview, views), encoding="utf-8")
        click.echo(f"page: {page_path}", err=as_json)
    if as_json:
        click.echo(json.dumps(asdict(overview or views[0])))
    elif page_path is None:
        console = Console(width=None if sys.stdout.isatty() else 120)  # a pipe has no width
        for part in render_run(overview) if overview else render_sample(views[0]):
            console.print(part)
    return 0
