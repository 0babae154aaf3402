"""``sekd benchmark``: general benchmarks, so that gains are seen and what was forgotten too."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import click

from sekd.commands.options import config_command
from sekd.io.locations import local_directory

if TYPE_CHECKING:
    from sekd.config import RunConfig

logger = logging.getLogger(__name__)


def _as_list(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value is None else f"[{value}]"


@click.command()
@click.option("--tasks", callback=_as_list, metavar="A,B", help="As lmms-eval names them.")
@click.option("--limit", type=int, help="Only the first so many samples of each task.")
@config_command
def benchmark(config: RunConfig, as_json: bool) -> bool:
    """General benchmarks of base and student through lmms-eval: gains, and what was forgotten.

    lmms-eval is run from an environment of its own, --set benchmark.python=lmms/bin/python; see
    docs/benchmarks.md. Writes benchmark.json and benchmark.md into the run's directory. Each task
    is kept as it ends, and a second run does what is missing.

    \b
    Example:
        sekd benchmark configs/cub200-qwen2.5-vl-7b.yaml --tasks mmbench_en_dev,gqa --limit 500
    """
    from rich.console import Console

    from sekd.report.benchmark import render_table
    from sekd.stages.benchmark.run import run_benchmark

    done = run_benchmark(config)
    if as_json:
        click.echo(json.dumps(done.content))
    elif done.rows:
        console = Console()
        if not console.is_terminal:  # a pipe has no width, and a folded table cannot be read
            console = Console(width=160)
        console.print(render_table(done.rows))
        click.echo(f"benchmark: {config.run_dir / 'benchmark.json'}")
    if done.failed:
        first = done.failed[0]
        click.echo(
            f"sekd: {len(done.failed)} of {done.num_evaluations} evaluations failed "
            f"({first['task']}, {first['model']}: {first['error']}); what lmms-eval printed is in "
            f"{local_directory(config.run_dir) / 'sekd.log'}; run the same command again to retry",
            err=True,
        )
    return not done.failed
