"""The command line.

Libraries that take long to import (torch, transformers, vllm) are imported inside the commands, so
that ``sekd --help`` is instant.
"""

from __future__ import annotations

import signal
from typing import Any

import click

from sekd import __version__
from sekd.commands import exit_codes
from sekd.commands.benchmark import benchmark_command
from sekd.commands.data import data_command
from sekd.commands.distill import distill_command
from sekd.commands.draw_world import draw_world_command
from sekd.commands.elicit import elicit_command
from sekd.commands.evaluate import evaluate_command
from sekd.commands.gc import gc_command
from sekd.commands.inspect import inspect_command
from sekd.commands.label import label_command
from sekd.commands.models import models_group
from sekd.commands.plan import plan_command
from sekd.commands.report import report_command
from sekd.commands.rounds import rounds_command
from sekd.commands.score import score_command
from sekd.commands.status import status_command
from sekd.commands.sweep import sweep_command
from sekd.commands.taxonomy import taxonomy_group
from sekd.commands.verify import verify_command
from sekd.io.stop_signals import stop_signals_raise, stopped_by


class _Program(click.Group):
    """Ends every command in the same way when a person or a signal stops it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with stop_signals_raise():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            number = stopped_by(error)
            what = "Ctrl-C" if number == signal.SIGINT else number.name
            click.echo(
                f"sekd: stopped by {what}; what is done stays done, run the same command again to "
                "go on",
                err=True,
            )
            ctx.exit(exit_codes.STOPPED + number)


@click.group(cls=_Program)
@click.version_option(__version__)
def main() -> None:
    """Self-Elicited Knowledge Distillation for vision-language models.

    A model walks a taxonomy step by step and is its own teacher (elicit). A LoRA student of the
    same model learns to answer the whole path at once (distill). Both are measured (evaluate).

    \b
    Try it without a download:
        sekd draw-world demo/world
        sekd plan demo/world/config.yaml
        sekd elicit demo/world/config.yaml
        sekd distill demo/world/config.yaml
        sekd evaluate demo/world/config.yaml
        sekd report demo
    """


for _command in (
    draw_world_command,
    taxonomy_group,
    data_command,
    models_group,
    plan_command,
    elicit_command,
    label_command,
    inspect_command,
    distill_command,
    evaluate_command,
    sweep_command,
    rounds_command,
    report_command,
    score_command,
    benchmark_command,
    status_command,
    verify_command,
    gc_command,
):
    main.add_command(_command)
