"""``sekd benchmark``: general benchmarks, so that gains are seen and what was forgotten too."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands.running import finished_adapter, on_this_machine, over_config
from sekd.errors import ConfigError, ShardError

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.stages.benchmark.lmms_eval import LmmsEval
    from sekd.stages.benchmark.results import Results

logger = logging.getLogger(__name__)


def _as_list(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value is None else f"[{value}]"


@click.command()
@click.option("--tasks", callback=_as_list, metavar="A,B", help="As lmms-eval names them.")
@click.option("--limit", type=int, help="Only the first so many samples of each task.")
@over_config
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

    from sekd.pipeline.files import write_atomically
    from sekd.stages import models
    from sekd.stages.benchmark.lmms_eval import LmmsEval
    from sekd.stages.benchmark.report import render_table, to_markdown
    from sekd.stages.benchmark.results import compare

    spec = config.benchmark
    if not spec.tasks:
        raise ConfigError("benchmark.tasks is empty; give --tasks, e.g. --tasks mmbench_en_dev,gqa")
    if spec.include_path is not None and not spec.include_path.is_dir():
        raise ConfigError(f"benchmark.include_path {spec.include_path}: no such folder")
    lmms_eval = LmmsEval.find(spec.python)
    adapters: dict[str, Path | None] = {"base": None}
    adapter = finished_adapter(config)
    if adapter is not None:
        adapters["student"] = adapter
    else:
        logger.info("no finished student for this config: the base alone")
    identity = models.identity(config.model)
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for task in spec.tasks:
        found: dict[str, Results] = {}
        for model, its_adapter in adapters.items():
            try:
                found[model] = _results(config, lmms_eval, task, model, its_adapter, identity)
            except ShardError as error:
                logger.info("%s, %s: %s", task, model, error)
                failed.append({"task": task, "model": model, "error": str(error)})
        if "base" in found:
            settings = {"num_bootstrap": spec.num_bootstrap, "seed": spec.seed}
            new = compare(found["base"], found.get("student"), **settings)
            if not new:
                logger.info("%s: lmms-eval gives no figure, only replies", task)
            rows += new
    content = {"rows": rows, "failed": failed, "versions": dict(lmms_eval.versions)}
    write_atomically(config.run_dir / "benchmark.json", json.dumps(content, indent=1) + "\n")
    write_atomically(config.run_dir / "benchmark.md", to_markdown(rows))
    if as_json:
        click.echo(json.dumps(content))
    elif rows:
        console = Console()
        if not console.is_terminal:  # a pipe has no width, and a folded table cannot be read
            console = Console(width=160)
        console.print(render_table(rows))
        click.echo(f"benchmark: {config.run_dir / 'benchmark.json'}")
    if failed:
        first = failed[0]
        click.echo(
            f"sekd: {len(failed)} of {len(spec.tasks) * len(adapters)} evaluations failed "
            f"({first['task']}, {first['model']}: {first['error']}); what lmms-eval printed is in "
            f"{on_this_machine(config.run_dir) / 'sekd.log'}; run the same command again to retry",
            err=True,
        )
    return not failed


def _results(
    config: RunConfig,
    lmms_eval: LmmsEval,
    task: str,
    model: str,
    adapter: Path | None,
    identity: dict[str, Any],
) -> Results:
    """Those that are stored, or else those of a new evaluation."""
    from sekd.pipeline.folders import find_folder, publish_folder
    from sekd.pipeline.progress import show_activity
    from sekd.pipeline.stage import open_directory
    from sekd.stages import models
    from sekd.stages.benchmark.fields import benchmark_fields
    from sekd.stages.benchmark.results import Results
    from sekd.stages.merge import merged_model

    stage = Path("benchmark") / f"{task}-{model}"
    fields = benchmark_fields(config, task, identity, adapter, lmms_eval.versions)
    directory = open_directory(config.run_dir / str(stage), fields)
    folder = find_folder(directory, "results")
    if folder is None:
        started = time.monotonic()
        path = merged_model(config.model, adapter) if adapter else models.locate(config.model)
        here = on_this_machine(config.run_dir) / stage / directory.name
        logger.info("%s, %s: started", task, model)
        with show_activity(f"{task}, {model}") as tell:
            lmms_eval.run(task, path, config.benchmark, config.model, here / "results", tell)
        folder = publish_folder(here, directory, "results")
        logger.info("%s, %s: done in %.0f s", task, model, time.monotonic() - started)
    return Results.load(folder)
