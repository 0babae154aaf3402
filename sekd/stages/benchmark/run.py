"""General benchmarks of base and student, task by task."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sekd.analysis.benchmark import BenchmarkResults, compare_benchmarks
from sekd.config import RunConfig
from sekd.errors import ConfigError, ShardError
from sekd.io.files import write_atomically
from sekd.io.locations import local_directory
from sekd.models import loading
from sekd.models.merge import merged_model
from sekd.pipeline.folders import find_folder, publish_folder
from sekd.pipeline.progress import show_activity
from sekd.pipeline.stage import open_directory
from sekd.report.benchmark import benchmark_markdown
from sekd.stages.benchmark.fields import benchmark_fields
from sekd.stages.benchmark.lmms_eval import LmmsEval
from sekd.stages.distill.run import finished_adapter

logger = logging.getLogger(__name__)


class Benchmarked(NamedTuple):
    """Rows of ``benchmark.json``, the evaluations that failed, and versions of the libraries."""

    rows: Sequence[dict[str, Any]]
    failed: Sequence[dict[str, str]]
    num_evaluations: int
    content: dict[str, Any]


def run_benchmark(config: RunConfig) -> Benchmarked:
    """Evaluate base and student on every task; what is stored is not run again.

    Raises:
        ConfigError: if no task is named, a folder is missing, or lmms-eval is not installed.
    """
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
    identity = loading.model_identity(config.model)
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for task in spec.tasks:
        found: dict[str, BenchmarkResults] = {}
        for model, its_adapter in adapters.items():
            try:
                found[model] = _results(config, lmms_eval, task, model, its_adapter, identity)
            except ShardError as error:
                logger.info("%s, %s: %s", task, model, error)
                failed.append({"task": task, "model": model, "error": str(error)})
        if "base" in found:
            settings = {"num_bootstrap": spec.num_bootstrap, "seed": spec.seed}
            new = compare_benchmarks(found["base"], found.get("student"), **settings)
            if not new:
                logger.info("%s: lmms-eval gives no figure, only replies", task)
            rows += new
    content = {"rows": rows, "failed": failed, "versions": dict(lmms_eval.versions)}
    write_atomically(config.run_dir / "benchmark.json", json.dumps(content, indent=1) + "\n")
    write_atomically(config.run_dir / "benchmark.md", benchmark_markdown(rows))
    return Benchmarked(rows, failed, len(spec.tasks) * len(adapters), content)


def _results(
    config: RunConfig,
    lmms_eval: LmmsEval,
    task: str,
    model: str,
    adapter: Path | None,
    identity: dict[str, Any],
) -> BenchmarkResults:
    """Those that are stored, or else those of a new evaluation."""

    stage = Path("benchmark") / f"{task}-{model}"
    fields = benchmark_fields(config, task, identity, adapter, lmms_eval.versions)
    directory = open_directory(config.run_dir / str(stage), fields)
    folder = find_folder(directory, "results")
    if folder is None:
        started = time.monotonic()
        path = (
            merged_model(config.model, adapter)
            if adapter
            else loading.model_directory(config.model)
        )
        here = local_directory(config.run_dir) / stage / directory.name
        logger.info("%s, %s: started", task, model)
        with show_activity(f"{task}, {model}") as tell:
            lmms_eval.run(task, path, config.benchmark, config.model, here / "results", tell)
        folder = publish_folder(here, directory, "results")
        logger.info("%s, %s: done in %.0f s", task, model, time.monotonic() - started)
    return BenchmarkResults.load(folder)
