"""``sekd draw-world``: images, a taxonomy and a config to try everything with."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from sekd.commands import exit_codes


@click.command("draw-world")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--train-images",
    type=click.IntRange(min=1),
    default=4000,
    show_default=True,
    help="Number of images to train on.",
)
@click.option(
    "--test-images",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    help="Number of images to evaluate on, per taxonomy.",
)
@click.option("--seed", default=0, show_default=True, help="Another seed draws other images.")
@click.option("--overwrite", is_flag=True, help="Remove what is in DIRECTORY, and draw it anew.")
def draw_world_command(
    directory: Path, train_images: int, test_images: int, seed: int, overwrite: bool
) -> None:
    """Draw images of a small world, with a config that runs on a laptop.

    There are two taxonomies of 81 species each: `seen`, on which the student is distilled, and
    `unseen`. The config names the tiny model that comes with sekd. Runs go into the folder that
    DIRECTORY is in.

    \b
    Example:
        sekd draw-world demo/world && sekd elicit demo/world/config.yaml
    """
    from sekd.data.toyworld import write_world

    if directory.is_dir() and any(directory.iterdir()):
        if not overwrite:
            click.echo(
                f"sekd: {directory} is not empty; name another directory, or remove what is there "
                "with --overwrite",
                err=True,
            )
            sys.exit(exit_codes.CONFIG)
        if not (directory / "config.yaml").is_file():
            click.echo(
                f"sekd: {directory} holds no drawn world (no config.yaml) and is not removed",
                err=True,
            )
            sys.exit(exit_codes.CONFIG)
        shutil.rmtree(directory)
    write_world(directory, num_train=train_images, num_test=test_images, seed=seed)
    click.echo(f"config: {directory / 'config.yaml'}")
