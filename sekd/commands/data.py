"""``sekd data``: look at data before a model does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.data.match_report import MatchReport

_NUM_SHOWN = 20
_WIDTH = 78


@click.group("data")
def data_command() -> None:
    """Look at data before a model does.

    \b
    Example:
        sekd data match my.yaml
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


@data_command.command("match")
@config_command("data match")
@click.argument("datasets", nargs=-1)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Alias file to write, for a single dataset.  [default: `aliases` of the dataset]",
)
def match_command(
    config: RunConfig, as_json: bool, datasets: tuple[str, ...], output: Path | None
) -> bool:
    """Match the classes of CONFIG's data with the leaves of their taxonomies.

    DATASETS are names under data; without any, all are matched. No image is opened. Classes that
    match no leaf are written into an alias file, with the nearest leaves. Fill its column `leaf`
    (`-` leaves a class out), and name the file as `aliases` of the dataset.

    \b
    Example:
        sekd data match my.yaml
        sekd data match my.yaml train --output aliases.csv
    """
    from sekd import api
    from sekd.errors import ConfigError

    if output is not None and len(datasets) != 1:
        raise ConfigError("--output needs one dataset, because each has an alias file of its own")
    reports = {name: api.match_classes(config, name) for name in datasets or config.data}
    if as_json:
        click.echo(json.dumps({name: report.to_json() for name, report in reports.items()}))
    for name, report in reports.items():
        if not as_json:
            for line in _describe_match(name, report):
                click.echo(line)
        path = output or config.data[name].aliases
        if report.unmatched and path is not None:
            report.write_aliases(path)
            click.echo(f"{path}: fill the column leaf of {len(report.unmatched)} classes", err=True)
        elif report.unmatched:
            hint = f"sekd data match CONFIG {name} --output FILE"
            click.echo(f"{name}: `{hint}` writes an alias file for them", err=True)
    return not any(report.unmatched for report in reports.values())


def _describe_match(name: str, report: MatchReport) -> Iterator[str]:
    num_images = report.num_images.total()
    yield f"{name}: {len(report.matches):,} classes with {num_images:,} labelled images"
    for step, count in report.num_classes_by_step.items():
        yield f"  {count:6,}  {step}"
    yield f"  {len(report.empty_classes):6,}  classes without images"
    yield f"  {len(report.leaves_without_class):6,}  leaves without a class"
    loose = [m for m in report.matches if m.leaf and m.step not in ("exact", "case")]
    lines = [f"{m.label} -> {m.leaf.name} ({m.step})" for m in loose if m.leaf]
    yield from _listed("matched by a looser step", lines, _NUM_SHOWN)
    lines = [
        f"{m.label} (near: {', '.join(report.candidates.get(m.label, ())) or 'nothing'})"
        for m in report.unmatched
    ]
    yield from _listed("unmatched", lines, len(lines))


def _listed(title: str, lines: Sequence[str], num_shown: int) -> Iterator[str]:
    if not lines:
        return
    yield f"{title}:"
    for line in lines[:num_shown]:
        yield f"  {line}"[:_WIDTH]
    if len(lines) > num_shown:
        yield f"  and {len(lines) - num_shown:,} more (--json lists all)"
