"""The command line.

Libraries that take long to import (torch, transformers, vllm) are imported inside the commands, so
that ``sekd --help`` is instant.
"""

from __future__ import annotations

import click

from sekd import __version__
from sekd.commands import (
    benchmark,
    distill,
    draw_world,
    elicit,
    evaluate,
    gc,
    inspect,
    plan,
    report,
    rounds,
    score,
    status,
    sweep,
    verify,
)


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Self-Elicited Knowledge Distillation for vision-language models.

    A model walks a taxonomy step by step and is its own teacher (elicit). A LoRA student of the
    same model learns to answer the whole path at once (distill). Both are measured (evaluate).

    \b
    Try it without a download:
        sekd draw-world world
        sekd plan world/config.yaml
        sekd elicit world/config.yaml
        sekd distill world/config.yaml
        sekd evaluate world/config.yaml
        sekd report .
    """


for _command in (
    draw_world.draw_world,
    plan.plan,
    elicit.elicit,
    inspect.inspect,
    distill.distill,
    evaluate.evaluate,
    sweep.sweep,
    rounds.rounds,
    report.report,
    score.score,
    benchmark.benchmark,
    status.status,
    verify.verify,
    gc.gc,
):
    main.add_command(_command)
