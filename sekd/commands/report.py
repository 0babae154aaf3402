"""``sekd report``: a finished evaluation as one HTML page."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sekd.commands.run_command import run_command

if TYPE_CHECKING:
    from sekd.analysis.results import StageRecord
    from sekd.io.locations import Location

logger = logging.getLogger(__name__)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")
@run_command
def report(run: Location, as_json: bool) -> int:
    """Write RUN/report.html, which shows what was gained, what it cost and what was lost.

    The page is one file that needs no network. It has figures, charts, and single images with the
    answers to them. Its tables are also written to RUN/report/ as Markdown, CSV and LaTeX. RUN is
    the run_dir of a finished sekd evaluate.

    \b
    Example:
        sekd report runs/birds
    """
    from sekd.analysis.results import Evaluation
    from sekd.io.files import write_atomically
    from sekd.report import PAGE, build_report

    files = build_report(Evaluation.read(run, _made(run)))
    for name, content in files.items():
        write_atomically(run / name, content)
    if as_json:
        tables = [str(run / name) for name in files if name != PAGE]
        click.echo(json.dumps({"report": str(run / PAGE), "tables": tables}))
    else:
        click.echo(f"report: {run / PAGE}\ntables: {run / 'report'}")
    return 0


def _made(run: Location) -> list[StageRecord]:
    """Every fingerprint of every stage, the newest of a stage first."""
    from sekd.analysis.results import StageRecord
    from sekd.errors import ConfigError
    from sekd.pipeline.manifest import Manifest
    from sekd.pipeline.stage import newest_first
    from sekd.pipeline.status import stage_roots

    made = []
    for name, root in [*stage_roots(run), ("distill", run / "distill")]:
        for directory, fields in newest_first(root):
            stage = StageRecord(name, directory.name, fields)
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
