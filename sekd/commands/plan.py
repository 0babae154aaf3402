"""``sekd plan``: what an elicitation will take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.stages.elicit.estimate import ElicitationPlan


@click.command("plan")
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="TFLOP/s of one worker; used as long as no rate was measured.",
)
@config_command("plan")
def plan_command(config: RunConfig, as_json: bool, tflops: float) -> bool:
    """Estimate what sekd elicit will cost: answers, tokens, bytes and hours.

    A few samples are rehearsed without the model. If shards are done already, the hours follow
    from their measured rate.

    \b
    Example:
        sekd plan configs/cub200-qwen2.5-vl-7b.yaml --tflops 300
    """
    from sekd import api

    planned = api.plan(config, tflops=tflops)
    if as_json:
        click.echo(json.dumps(planned.to_json()))
    else:
        _print_plan(planned)
    return True


def _print_plan(planned: ElicitationPlan) -> None:
    from rich.filesize import decimal

    cost, num_workers = planned.cost, planned.num_workers
    unusable = f", about {cost.num_unusable:,} of them unusable" if cost.num_unusable else ""
    duration = _format_duration(planned.hours * 3600)
    lines = {
        "samples": f"{cost.num_samples:,}{unusable}; {cost.num_probed} were rehearsed",
        "shards": f"{planned.num_shards:,}",
        "answers": f"{cost.num_answers:,}",
        "tokens": f"{cost.num_tokens:,}, and once more for the states "
        f"({cost.num_prompt_tokens:,} without a prefix cache)",
        "on disk": decimal(cost.num_bytes),
        "time": f"{duration} on {num_workers} worker(s), {planned.hours_basis}",
    }
    for title, text in lines.items():
        click.echo(f"{title:8} {text}")
    for sample in cost.unusable:
        click.echo(f"unusable {sample}")


def _format_duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1 else "less than a second"
