"""``sekd plan``: what an elicitation will take."""

from __future__ import annotations

import json
from textwrap import fill
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.stages.elicit.estimate import AdapterPlan, ElicitationPlan
    from sekd.stages.elicit.estimate_descents import DescentCost

_WIDTH = 80


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
    """Estimate what sekd elicit will cost, and list the layers that sekd distill will adapt.

    A few samples are rehearsed without the model. If shards are done already, the hours follow
    from their measured rate.

    \b
    Example:
        sekd plan configs/qwen2.5-vl-7b.yaml --tflops 300
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
        **({} if planned.descents is None else {"descents": describe_descents(planned.descents)}),
        "shards": f"{planned.num_shards:,}",
        "answers": f"{cost.num_answers:,}",
        "tokens": f"{cost.num_tokens:,} computed of {cost.num_prompt_tokens:,} in prompts, and "
        f"{cost.num_state_tokens:,} for the states",
        "on disk": decimal(cost.num_bytes),
        "time": f"{duration} on {num_workers} worker(s), {planned.hours_basis}",
        **describe_adapter(planned.adapter),
    }
    for title, text in lines.items():
        click.echo(fill(f"{title:8} {text}", _WIDTH, subsequent_indent=" " * 9))
    for sample in cost.unusable:
        click.echo(f"unusable {sample}")


def describe_descents(descents: DescentCost) -> str:
    """Say what the descents cost that give the labels, and what they cannot tell apart."""
    over = "every leaf equally often" if descents.is_over_leaves else "the labels of the images"
    text = (
        f"{descents.num_questions:,} questions, {descents.num_tokens:,} tokens computed of "
        f"{descents.num_prompt_tokens:,} in prompts, for right answers and {over}; every leaf can "
        f"be reached, the widest node is {descents.widest} with {descents.num_children:,} children"
    )
    if descents.num_lookalikes:
        text += f"; {descents.num_lookalikes:,} nodes read like a sibling and share its probability"
    return text


def describe_adapter(adapter: AdapterPlan) -> dict[str, str]:
    """Say which layers are adapted and which are not, as titled lines."""
    lines = {
        "adapter": f"{adapter.num_parameters:,} parameters on {adapter.num_layers:,} layers of the "
        f"language model: {', '.join(adapter.layers)}",
        "frozen": "everything outside of the language model's blocks",
    }
    if adapter.frozen_share >= 0.005:
        lines["frozen"] += f", and {adapter.frozen_share:.0%} of the weights in them"
    if adapter.frozen_experts:
        lines["frozen"] += (
            f", most of all {' and '.join(adapter.frozen_experts)}; to adapt those too, name them "
            "in distill.lora.target_modules, with dropout: 0"
        )
    if adapter.unquantised:
        lines["4 bits"] = (
            f"{' and '.join(adapter.unquantised)} stay as they are; bitsandbytes quantises linear "
            "layers only"
        )
    if adapter.images is not None:
        lines["images"] = str(adapter.images)
    if adapter.is_served is False:
        lines["engine"] = (
            "vLLM serves no adapters on this model; set evaluate.engine: transformers, or the "
            "student cannot be evaluated"
        )
    return lines


def _format_duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1 else "less than a second"
