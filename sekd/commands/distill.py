"""``sekd distill``: a LoRA student from the teacher's shards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command, limit_option
from sekd.io.torchrun import is_main_process

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.command("distill")
@limit_option
@config_command("distill", is_distributed=True)
def distill_command(config: RunConfig, as_json: bool) -> bool:
    """Stage two: train a LoRA student on the teacher's shards.

    The student learns to answer all levels in one pass. A run that was stopped resumes from its
    last checkpoint. For several GPUs start it with torchrun.

    \b
    Example:
        sekd distill configs/qwen2.5-vl-7b.yaml --set distill.losses.feature=0
    """
    from sekd import api

    adapter = api.distill(config)
    if is_main_process():
        click.echo(json.dumps({"adapter": str(adapter)}) if as_json else f"adapter: {adapter}")
    return True
