"""General benchmarks of base and student, task by task."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sekd.analysis.benchmark import BenchmarkRow, BenchmarkScores, compare_benchmarks
from sekd.config import BASE, STUDENT, BenchmarkSpec, RunConfig
from sekd.errors import ConfigError, ShardError
from sekd.io.artefacts import write_artefact
from sekd.io.folders import publish_folder, reuse_folder
from sekd.io.hashing import hash_directory
from sekd.io.locations import local_directory
from sekd.models import loading
from sekd.models.adapters import adapted_spec, adapter_identity
from sekd.models.merge import merged_model
from sekd.pipeline.progress import show_activity
from sekd.pipeline.sole_process import sole_process
from sekd.pipeline.stage import open_directory
from sekd.report.benchmark import benchmark_table
from sekd.report.writers import to_markdown
from sekd.stages.benchmark.lmms_eval import LmmsEval
from sekd.stages.distill.run import finished_adapter

logger = logging.getLogger(__name__)

BENCHMARK_VERSION = 1
"""Part of the fingerprint: raise it when the same input would give other figures."""

_FINGERPRINTED = {"limit", "model", "model_args", "num_fewshot", "batch_size", "seed"}
"""Settings of the config section that the figures depend on."""


@dataclass(frozen=True)
class FailedEvaluation:
    """A model on a task that lmms-eval could not evaluate."""

    task: str
    model: str
    error: str


@dataclass(frozen=True)
class BenchmarkResult:
    """The content of ``benchmark.json``.

    Attributes:
        num_evaluations: the number of tasks times the number of models.
        versions: of the libraries in lmms-eval's environment.
    """

    rows: Sequence[BenchmarkRow]
    failed: Sequence[FailedEvaluation]
    num_evaluations: int
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``benchmark.json``."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "failed": [asdict(evaluation) for evaluation in self.failed],
            "versions": dict(self.versions),
        }


def run_benchmark(config: RunConfig) -> BenchmarkResult:
    """Evaluate base and student on every task; what is stored is not run again.

    Writes ``benchmark.json`` and ``benchmark.md`` into the run's directory.

    Raises:
        ConfigError: if no task is named, a folder is missing, or lmms-eval is not installed.
    """
    spec = config.benchmark
    _check_spec(spec)
    lmms_eval = LmmsEval.find(spec.python)
    adapters: dict[str, Path | None] = {BASE: None}
    adapter = finished_adapter(config)
    if adapter is not None:
        adapters[STUDENT] = adapter
    else:
        logger.info("no finished student for this config: the base alone")
    evaluator = _Evaluator(config, lmms_eval, loading.model_identity(config.model))
    rows: list[BenchmarkRow] = []
    failed: list[FailedEvaluation] = []
    for task in spec.tasks:
        scores: dict[str, BenchmarkScores] = {}
        for model, model_adapter in adapters.items():
            try:
                scores[model] = evaluator.evaluate(task, model, model_adapter)
            except ShardError as error:
                logger.info("%s, %s: %s", task, model, error)
                failed.append(FailedEvaluation(task, model, str(error)))
        if BASE in scores:
            rows += _compare_models(task, scores[BASE], scores.get(STUDENT), spec)
    result = BenchmarkResult(rows, failed, len(spec.tasks) * len(adapters), lmms_eval.versions)
    contents = {
        "benchmark.json": json.dumps(result.to_json(), indent=1) + "\n",
        "benchmark.md": to_markdown(benchmark_table(rows)),
    }
    write_artefact(config.run_dir, "benchmark", contents)
    return result


def _check_spec(spec: BenchmarkSpec) -> None:
    if not spec.tasks:
        raise ConfigError("benchmark.tasks is empty; give --tasks, e.g. --tasks mmbench_en_dev,gqa")
    if spec.include_path is not None and not spec.include_path.is_dir():
        raise ConfigError(f"benchmark.include_path {spec.include_path}: no such folder")


def _compare_models(
    task: str, base: BenchmarkScores, student: BenchmarkScores | None, spec: BenchmarkSpec
) -> list[BenchmarkRow]:
    rows = compare_benchmarks(base, student, num_bootstrap=spec.num_bootstrap, seed=spec.seed)
    if not rows:
        logger.info("%s: lmms-eval gives no figure, only replies", task)
    return rows


@dataclass(frozen=True)
class _Evaluator:
    """Evaluates one model on one task.

    Attributes:
        identity: of the base, for fingerprints.
    """

    config: RunConfig
    lmms_eval: LmmsEval
    identity: Mapping[str, Any]

    def evaluate(self, task: str, model: str, adapter: Path | None) -> BenchmarkScores:
        """Load the scores that are stored, or run lmms-eval and store them.

        Raises:
            ShardError: if lmms-eval failed.
            ConfigError: if another process evaluates the same.
        """
        run_dir = self.config.run_dir
        stage = Path("benchmark") / f"{task}-{model}"
        fields = benchmark_fields(
            self.config, task, self.identity, adapter, self.lmms_eval.versions
        )
        directory = open_directory(run_dir / str(stage), fields)
        folder = reuse_folder(directory, "results")
        if folder is None:
            local = local_directory(run_dir) / stage / directory.name
            with sole_process(directory, f"evaluates {model} on {task}"):
                self._run_lmms_eval(task, model, adapter, local / "results")
                folder = publish_folder(local, directory, "results")
        return BenchmarkScores.load(folder)

    def _run_lmms_eval(self, task: str, model: str, adapter: Path | None, folder: Path) -> None:
        spec = self.config.model
        started = time.monotonic()
        path = merged_model(spec, adapter) if adapter else loading.model_directory(spec)
        logger.info("%s, %s: started", task, model)
        with show_activity(f"{task}, {model}") as show_line:
            self.lmms_eval.run(
                task, path, self.config.benchmark, adapted_spec(spec, adapter), folder, show_line
            )
        logger.info("%s, %s: done in %.0f s", task, model, time.monotonic() - started)


def benchmark_fields(
    config: RunConfig,
    task: str,
    model_identity: Mapping[str, Any],
    adapter: Path | None,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Return everything that one model's figures on one task depend on, for their fingerprint.

    The batch size is part of it, unlike elsewhere: lmms-eval's classes do not promise the same
    replies at any batch size. The data that lmms-eval fetches is not part of it, because nothing
    names its content.
    """
    spec = config.benchmark
    own_tasks = hash_directory(spec.include_path) if spec.include_path else {}
    return {
        "stage": "benchmark",
        "version": BENCHMARK_VERSION,
        "spec": {"task": task, "benchmark": spec.model_dump(mode="json", include=_FINGERPRINTED)},
        "own_tasks": {
            path: sha256 for path, sha256 in own_tasks.items() if "__pycache__" not in path
        },
        "model": dict(model_identity),
        "adapter": adapter_identity(adapter, STUDENT) if adapter else None,
        "versions": dict(versions),
    }
