"""``sekd plan``: what an elicitation will take."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.command()
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="TFLOP/s of one worker; used as long as no rate was measured.",
)
@config_command("plan")
def plan(config: RunConfig, as_json: bool, tflops: float) -> bool:
    """Estimate what sekd elicit will cost: answers, tokens, bytes and hours.

    A few samples are rehearsed without the model. If shards are done already, the hours follow
    from their measured rate.

    \b
    Example:
        sekd plan configs/cub200-qwen2.5-vl-7b.yaml --tflops 300
    """
    from rich.filesize import decimal

    from sekd.data.samples import Dataset
    from sekd.pipeline.status import run_status
    from sekd.stages.elicit.estimate import estimate_cost

    name, runtime = config.elicit.dataset, config.elicit.runtime
    dataset = Dataset.load(name, config.dataset(name, "elicit.dataset"))
    cost = estimate_cost(config, dataset)
    rates = {
        stage.name: stage.rate
        for stage in run_status(config.run_dir)
        if stage.name in ("answers", "states") and stage.rate
    }
    num_workers = 1 if runtime.executor == "inline" else runtime.workers
    if len(rates) == 2:
        seconds = sum(cost.num_samples / rate for rate in rates.values())
        basis = "at the rate of the shards that are done"
    else:
        seconds, basis = cost.flops / (tflops * 1e12), f"at {tflops:g} TFLOP/s a worker (--tflops)"
    summary = {
        "num_shards": -(-cost.num_samples // runtime.shard_size),
        **asdict(cost),
        "num_workers": num_workers,
        "hours": seconds / 3600 / num_workers,
        "hours_basis": basis,
    }
    if as_json:
        click.echo(json.dumps(summary))
        return True
    unusable = f", about {cost.num_unusable:,} of them unusable" if cost.num_unusable else ""
    lines = {
        "samples": f"{cost.num_samples:,}{unusable}; {cost.num_probed} were rehearsed",
        "shards": f"{summary['num_shards']:,}",
        "answers": f"{cost.num_answers:,}",
        "tokens": f"{cost.num_tokens:,}, and once more for the states "
        f"({cost.num_prompt_tokens:,} without a prefix cache)",
        "on disk": decimal(cost.num_bytes),
        "time": f"{_duration(seconds / num_workers)} on {num_workers} worker(s), {basis}",
    }
    for title, text in lines.items():
        click.echo(f"{title:8} {text}")
    return True


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
