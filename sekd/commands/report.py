"""``sekd report``: a finished evaluation as one page for a person."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sekd.commands.upkeep import over_run

if TYPE_CHECKING:
    from sekd.locations import Location
    from sekd.stages.report.results import Made

logger = logging.getLogger(__name__)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")
@over_run
def report(run: Location, as_json: bool) -> int:
    """Write RUN/report.html: what was gained, what it cost and what was lost.

    One file that needs no network: figures, charts, and single images with what was answered. Its
    tables stand in RUN/report/ as Markdown, CSV and LaTeX. RUN is the run_dir of a finished
    sekd evaluate.

    \b
    Example:
        sekd report runs/birds
    """
    from sekd.pipeline.files import write_atomically
    from sekd.stages.report import PAGE, build_report
    from sekd.stages.report.results import Results

    files = build_report(Results.read(run, _made(run)))
    for name, content in files.items():
        write_atomically(run / name, content)
    if as_json:
        tables = [str(run / name) for name in files if name != PAGE]
        click.echo(json.dumps({"report": str(run / PAGE), "tables": tables}))
    else:
        click.echo(f"report: {run / PAGE}\ntables: {run / 'report'}")
    return 0


def _made(run: Location) -> list[Made]:
    """Every fingerprint of every stage, the newest of a stage first."""
    from sekd.errors import ConfigError
    from sekd.pipeline.manifest import Manifest
    from sekd.pipeline.stage import newest_first
    from sekd.pipeline.status import stage_roots
    from sekd.stages.report.results import Made

    made = []
    for name, root in [*stage_roots(run), ("distill", run / "distill")]:
        for directory, fields in newest_first(root):
            stage = Made(name, directory.name, fields)
            try:
                manifest = Manifest.load(directory)
                stage = replace(
                    stage,
                    num_done=manifest.num_samples,
                    num_quarantined=len(manifest.quarantined),
                )
            except ConfigError:  # distill has no manifest, and a stage may not be finished
                logger.debug("%s has no manifest", directory)
            made.append(stage)
    return made
