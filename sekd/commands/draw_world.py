"""``sekd draw-world``: images, a taxonomy and a config to try everything with."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("draw-world")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--train-images", default=4000, show_default=True, help="Number of images to train on."
)
@click.option(
    "--test-images",
    default=400,
    show_default=True,
    help="Number of images to evaluate on, per taxonomy.",
)
@click.option("--seed", default=0, show_default=True, help="Another seed draws other images.")
def draw_world_command(directory: Path, train_images: int, test_images: int, seed: int) -> None:
    """Draw images of a small world, with a config that runs on a laptop.

    There are two taxonomies of 81 species each: `seen`, on which the student is distilled, and
    `unseen`. The config names the tiny model that comes with sekd.

    \b
    Example:
        sekd draw-world world && sekd elicit world/config.yaml
    """
    from sekd.data.toyworld import write_world

    write_world(directory, num_train=train_images, num_test=test_images, seed=seed)
    click.echo(f"config: {directory / 'config.yaml'}")
