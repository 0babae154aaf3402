"""``sekd label``: labels for images that have none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command, retry_failed_option, worker_options

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.stages.elicit.descents import Labelled

_FLOORS = (0.5, 0.8, 0.9)


@click.command("label")
@click.option("--dataset", metavar="NAME", help="Dataset to label; elicit.dataset if not given.")
@retry_failed_option
@worker_options("elicit")
@config_command("label")
def label_command(
    config: RunConfig, as_json: bool, dataset: str | None, retry_failed: bool
) -> bool:
    """Label the images of a dataset: the teacher descends the taxonomy, with no label to go by.

    The table labels-NAME.parquet in the run directory has a row for each image: its path, and at
    each node the probability of every child. A dataset takes it as its labels with labels: FILE,
    and with min_confidence only those that the model is sure of. Work that is done is kept.

    \b
    Example:
        sekd label my.yaml --dataset train
    """
    from sekd import api

    labelled = api.label(config, dataset, retry_failed=retry_failed)
    if as_json:
        click.echo(json.dumps(_summary(labelled)))
    else:
        _print_labelled(labelled)
    return True


def _summary(labelled: Labelled) -> dict[str, object]:
    return {
        "dataset": labelled.dataset,
        "num_samples": labelled.num_samples,
        "num_quarantined": labelled.num_quarantined,
        "num_questions": labelled.num_questions,
        "num_confident": {str(floor): labelled.num_confident(floor) for floor in _FLOORS},
        "labels": str(labelled.table),
    }


def _print_labelled(labelled: Labelled) -> None:
    shares = ", ".join(
        f"{labelled.num_confident(floor):,} with {floor:g} or more" for floor in _FLOORS
    )
    click.echo(
        f"{labelled.num_samples:,} samples of {labelled.dataset} labelled with "
        f"{labelled.num_questions:,} questions, {labelled.num_quarantined:,} quarantined\n"
        f"probability of the whole path: {shares}\n"
        f"labels: {labelled.table}"
    )
