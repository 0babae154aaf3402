"""``sekd export``: a student with all that a stranger needs, in a folder or on the hub."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import click

from sekd.commands import exit_codes
from sekd.errors import ConfigError, FatalError, in_one_line

logger = logging.getLogger(__name__)


@click.command("export")
@click.argument("source", metavar="RUN|ADAPTER")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--merge", is_flag=True, help="Write a whole model, with the adapter merged in.")
@click.option(
    "--push",
    metavar="REPO",
    help="Upload to this repository of the hub too, e.g. me/birds; a new one is private.",
)
@click.option(
    "--licence", metavar="ID", help="Licence of the student; that of the base's card otherwise."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export_command(
    source: str, folder: Path, merge: bool, push: str | None, licence: str | None, as_json: bool
) -> None:
    """Write a student and what a stranger needs to ask it into the folder OUT.

    RUN is the run_dir of a finished sekd distill, ADAPTER the folder of an adapter. OUT gets the
    weights as safetensors, the taxonomy, the prompts, the settings of the processor, the
    calibration if there is one, and a model card with the results of sekd evaluate. Nothing is
    uploaded without --push, which takes the token of `hf auth login`.

    \b
    Example:
        sekd export runs/birds birds-student
        sekd export runs/birds birds-model --merge --push me/birds
    """
    from sekd import api

    try:
        exported = api.export(source, folder, merge=merge, push=push, licence=licence)
    except ConfigError as error:
        click.echo(f"sekd: {error}", err=True)
        sys.exit(exit_codes.CONFIG)
    except (FatalError, OSError) as error:
        logger.debug("stopped", exc_info=error)
        click.echo(f"sekd: {in_one_line(error)}", err=True)
        sys.exit(exit_codes.INCOMPLETE)
    if as_json:
        click.echo(json.dumps(exported.to_json()))
        return
    what = "a whole model" if exported.is_merged else "an adapter"
    probabilities = "calibrated" if exported.is_calibrated else "uncalibrated"
    size = f"{exported.num_bytes / 1e6:,.1f} MB"
    click.echo(f"exported: {exported.folder} ({what}, {size}, {probabilities})")
    if exported.url:
        click.echo(f"pushed: {exported.url}")
