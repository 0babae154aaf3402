"""``sekd distill``: a LoRA student from the teacher's shards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.options import config_command, is_follower

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.command()
@config_command
def distill(config: RunConfig, as_json: bool) -> bool:
    """Stage two: a LoRA student learns the joint prompt from the teacher's shards.

    Resumes from its last checkpoint. Start it with torchrun for several GPUs.

    \b
    Example:
        sekd distill configs/cub200-qwen2.5-vl-7b.yaml --set distill.losses.feature=0
    """
    from sekd.stages.distill.run import run_distillation

    adapter = run_distillation(config)
    if not is_follower():
        click.echo(json.dumps({"adapter": str(adapter)}) if as_json else f"adapter: {adapter}")
    return True
