"""The command line. Each command composes a stage with the runner, and turns errors into one line.

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
    inspect,
    maintenance,
    plan,
    report,
    rounds,
    score,
    sweep,
)


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Self-Elicited Knowledge Distillation for vision-language models.

    A model walks a taxonomy step by step as its own teacher (elicit); a LoRA student of the same
    model learns to answer the whole path at once (distill); both are measured (evaluate).

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
    maintenance.status,
    maintenance.verify,
    maintenance.gc,
):
    main.add_command(_command)
