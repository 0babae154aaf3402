"""``sekd calibrate``: probabilities that mean what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command, retry_failed_option, worker_options
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.report.table import Table, Value
    from sekd.stages.calibrate.files import BeforeAfter
    from sekd.stages.calibrate.run import Calibrated


@click.command("calibrate")
@click.option(
    "--data",
    "dataset",
    metavar="NAME",
    required=True,
    help="Dataset of labelled images that no model was trained on.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="base, student or a name of evaluate.models; the student if there is one.",
)
@retry_failed_option
@worker_options("evaluate")
@config_command("calibrate", takes_run=True)
def calibrate_command(
    config: RunConfig, as_json: bool, dataset: str, model: str | None, retry_failed: bool
) -> bool:
    """Fit temperatures on labelled images, so that probabilities mean what they say.

    CONFIG is a config, or the run_dir of one. A temperature for each level is fitted to the
    predictions of an evaluation, of open naming or a descent. The table shows what temperatures
    fitted on one half of the images change on the other half; then all images are used.
    calibration.json stands beside the adapter, or for a base in the run. sekd predict and sekd
    evaluate find it there.

    \b
    Example:
        sekd calibrate my.yaml --data val
    """
    from sekd import api

    calibrated = api.calibrate(config, dataset, model, retry_failed=retry_failed)
    if as_json:
        fits = {paradigm: fit.model_dump(mode="json") for paradigm, fit in calibrated.fits.items()}
        content = {"model": calibrated.model, "calibration": str(calibrated.file), "fits": fits}
        click.echo(json.dumps(content))
    else:
        print_table(_table(calibrated))
        click.echo(f"calibration: {calibrated.file}")
    return True


def _table(calibrated: Calibrated) -> Table:
    from sekd.report.table import Column, Table, count_groups

    rows: list[list[Value]] = []
    for paradigm, fit in calibrated.fits.items():
        for level in fit.levels.values():
            fitted = [level.num_questions, level.temperature]
            rows.append([paradigm, level.rank, *fitted, *_pair(level.loss), *_pair(level.ece)])
        rows.append([paradigm, "the path", None, None, None, None, *_pair(fit.path_ece)])
    names = [Column(name, name, is_text=True) for name in ("paradigm", "level")]
    figures = [
        Column("num_questions", "questions"),
        Column("temperature", "temperature", digits=2),
        Column("loss", "NLL", digits=3),
        Column("loss_calibrated", "then", digits=3),
        Column("ece", "ECE %"),
        Column("ece_calibrated", "then"),
    ]
    num_images = {fit.num_images for fit in calibrated.fits.values()}
    return Table(
        name="temperatures",
        title=f"{calibrated.model} on {' or '.join(map(str, num_images))} images; "
        "NLL and ECE on the half held out, before and then",
        columns=[*names, *figures],
        num_names=len(names),
        rows=rows,
        groups=count_groups(row[:1] for row in rows),
    )


def _pair(figure: BeforeAfter | None) -> tuple[float | None, float | None]:
    return (None, None) if figure is None else (figure.before, figure.after)
