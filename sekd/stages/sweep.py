"""The sweep: the variants of a config, trained and evaluated side by side."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from sekd.analysis.results import Evaluation
from sekd.analysis.sweep import SweepResult, SweepStudent, students_of
from sekd.config import EvaluatedModel, RunConfig
from sekd.errors import ConfigError, in_one_line
from sekd.io.artefacts import write_artefact
from sekd.io.faults import StorageError
from sekd.io.locations import Location
from sekd.models.loading import free_memory
from sekd.report.sweep_plot import sweep_plot
from sekd.report.sweep_table import sweep_table
from sekd.report.writers import to_csv, to_markdown
from sekd.stages.distill.run import run_distillation
from sekd.stages.elicit.run import finished_elicitation
from sekd.stages.evaluate.run import check_evaluation, run_evaluation

logger = logging.getLogger(__name__)


def run_sweep(config: RunConfig, *, retry_failed: bool = False) -> SweepResult:
    """Train every student, then evaluate all of them at once, without controls.

    Writes ``table.md``, ``table.csv`` and ``plot.png`` into the run's folder ``sweep``.

    Raises:
        ConfigError: if the teacher is not finished, there is nothing to evaluate on, or no student
            could be trained.
        IncompleteError: shards of the evaluation are left.
    """
    finished_elicitation(config)
    check_evaluation(config)
    students = students_of(config)
    adapters, failed = _train_students(students)
    if not adapters:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ConfigError(f"sweep: no variant could be trained ({reasons or 'there is none'})")
    evaluation = _evaluate_students(config, adapters, retry_failed=retry_failed)
    result = SweepResult.of(evaluation, config.distill.learned_paradigm, students, failed)
    _write_sweep(result, config.run_dir / "sweep")
    return result


def _train_students(students: Sequence[SweepStudent]) -> tuple[dict[str, Path], dict[str, str]]:
    """Train every student; one that fails does not stop the others.

    Returns:
        Student -> its adapter, and student -> why its training failed.
    """
    adapters, failed = {}, {}
    for number, student in enumerate(students, 1):
        logger.info("sweep: %s, %d of %d", student.name, number, len(students))
        try:
            adapters[student.name] = run_distillation(student.config)
        except StorageError:
            raise  # the next student would meet the same
        except Exception as error:
            logger.debug("%s failed", student.name, exc_info=True)
            failed[student.name] = in_one_line(error)
        free_memory()
    return adapters, failed


def _evaluate_students(
    config: RunConfig, adapters: Mapping[str, Path], *, retry_failed: bool
) -> Evaluation:
    models = {name: EvaluatedModel(adapter=adapter) for name, adapter in adapters.items()}
    spec = config.evaluate.model_copy(update={"models": models, "controls": ()})
    evaluated = run_evaluation(
        config.model_copy(update={"evaluate": spec}),
        None,  # the run's own student is one of the variants, or is not part of the sweep
        config.run_dir / "sweep",
        retry_failed=retry_failed,
    )
    return evaluated.evaluation


def _write_sweep(result: SweepResult, folder: Location) -> None:
    table = sweep_table(result)
    notes = "".join(f"\n{name} failed: {reason}\n" for name, reason in result.failed.items())
    contents: dict[str, str | bytes] = {
        "table.md": f"{table.title}\n\n{to_markdown(table)}{notes}",
        "table.csv": to_csv(table),
        "plot.png": sweep_plot(result),
    }
    write_artefact(folder, "sweep", contents)
