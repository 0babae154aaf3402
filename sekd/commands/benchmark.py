"""``sekd benchmark``: general benchmarks of base and student."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import config_command, setting_option
from sekd.commands.output import print_table
from sekd.io.locations import local_directory

if TYPE_CHECKING:
    from sekd.config import RunConfig


@click.command("benchmark")
@setting_option(
    "--tasks",
    "benchmark.tasks",
    as_list=True,
    metavar="A,B",
    help="Tasks or groups of tasks, as lmms-eval names them.",
)
@setting_option(
    "--limit", "benchmark.limit", type=int, help="Largest number of samples of each task."
)
@config_command("benchmark")
def benchmark_command(config: RunConfig, as_json: bool) -> bool:
    """Run general benchmarks on base and student, to see gains and what was forgotten.

    The benchmarks are those of lmms-eval. It runs in an environment of its own, which
    --set benchmark.python=lmms/bin/python names; see docs/benchmarks.md. The command writes
    benchmark.json and benchmark.md into the run directory. Each finished task is stored, and a
    second run evaluates only what is missing.

    \b
    Example:
        sekd benchmark my.yaml --tasks mmbench_en_dev,gqa --limit 500
    """
    from sekd import api
    from sekd.report.benchmark import benchmark_table

    done = api.benchmark(config)
    if as_json:
        click.echo(json.dumps(done.to_json()))
    elif done.rows:
        print_table(benchmark_table(done.rows))
        click.echo(f"benchmark: {config.run_dir / 'benchmark.json'}")
    if done.failed:
        first = done.failed[0]
        click.echo(
            f"sekd: {len(done.failed)} of {done.num_evaluations} evaluations failed "
            f"({first.task}, {first.model}: {first.error}); what lmms-eval printed is in "
            f"{local_directory(config.run_dir) / 'sekd.log'}; run the same command again to retry",
            err=True,
        )
    return not done.failed
