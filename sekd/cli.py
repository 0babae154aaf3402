"""The command line.

Libraries that take long to import (torch, transformers, vllm) are imported inside the commands, so
that ``sekd --help`` is instant.
"""

from __future__ import annotations

import click

from sekd import __version__
from sekd.commands.benchmark import benchmark_command
from sekd.commands.calibrate import calibrate_command
from sekd.commands.data import data_command
from sekd.commands.distill import distill_command
from sekd.commands.draw_world import draw_world_command
from sekd.commands.elicit import elicit_command
from sekd.commands.evaluate import evaluate_command
from sekd.commands.export import export_command
from sekd.commands.gc import gc_command
from sekd.commands.inspect import inspect_command
from sekd.commands.label import label_command
from sekd.commands.models import models_group
from sekd.commands.plan import plan_command
from sekd.commands.predict import predict_command
from sekd.commands.program import Program
from sekd.commands.report import report_command
from sekd.commands.rounds import rounds_command
from sekd.commands.score import score_command
from sekd.commands.status import status_command
from sekd.commands.sweep import sweep_command
from sekd.commands.taxonomy import taxonomy_group
from sekd.commands.verify import verify_command


@click.group(cls=Program)
@click.version_option(__version__)
def main() -> None:
    """Self-Elicited Knowledge Distillation for vision-language models.

    A model walks a taxonomy step by step and is its own teacher (elicit). A LoRA student of the
    same model learns to answer the whole path at once (distill). Both are measured (evaluate).

    \b
    Try it without a download, in a folder of its own:
        sekd draw-world ~/sekd-demo/world --train-images 400 --test-images 40
        sekd plan ~/sekd-demo/world/config.yaml
        sekd elicit ~/sekd-demo/world/config.yaml
        sekd distill ~/sekd-demo/world/config.yaml
        sekd evaluate ~/sekd-demo/world/config.yaml
        sekd report ~/sekd-demo
        sekd predict ~/sekd-demo/world/seen/images --run ~/sekd-demo
    """


main.add_section(
    "The job",
    (
        draw_world_command,
        plan_command,
        elicit_command,
        label_command,
        distill_command,
        sweep_command,
        rounds_command,
        evaluate_command,
        calibrate_command,
        benchmark_command,
        report_command,
        predict_command,
        export_command,
    ),
)
main.add_section(
    "Look",
    (
        taxonomy_group,
        data_command,
        models_group,
        inspect_command,
        score_command,
    ),
)
main.add_section("Care", (status_command, verify_command, gc_command))
