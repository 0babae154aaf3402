"""``sekd data``: look at data before a model does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.group("data")
def data_command() -> None:
    """Look at data before a model does.

    \b
    Example:
        sekd data audit my.yaml
    """


@data_command.command("audit")
@config_command("data audit")
@click.argument("datasets", nargs=-1)
def audit_command(config: RunConfig, as_json: bool, datasets: tuple[str, ...]) -> bool:
    """Show what the data of CONFIG give away, and where they disagree.

    DATASETS are names under data; without any, all are audited. Every image is read. Shown are:

    \b
    - blind: the expected HCA of a solver that knows the taxonomy, not the image
    - chance: the expected HCA of a solver that knows neither
    - 1 option: questions with a single option
    - no siblings: questions in which a wrong option has another parent
    - classes: leaves with samples; own: those that no other dataset has
    - the letters of right answers, and what they would be in an even order
    - images that are identical or look alike, also across datasets
    - identical images with different labels

    \b
    Example:
        sekd data audit my.yaml
        sekd data audit my.yaml train test --json
    """
    from sekd import api
    from sekd.report.audit import audit_findings, audit_tables

    audited = api.audit_data(config, datasets)
    if as_json:
        click.echo(json.dumps(audited.to_json()))
        return True
    for table in audit_tables(audited):
        print_table(table)
    for finding in audit_findings(audited):
        click.echo(finding)
    return True
