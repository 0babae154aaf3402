"""The sweep: the variants of a config, trained and evaluated side by side."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sekd.analysis.results import Evaluation
from sekd.analysis.sweep import Student, references, rows_of, students_of
from sekd.config import EvaluatedModel, RunConfig
from sekd.errors import ConfigError, in_one_line
from sekd.io.files import write_atomically
from sekd.models.loading import free_memory
from sekd.report.formats import to_csv, to_markdown
from sekd.report.sweep_plot import sweep_plot
from sekd.report.sweep_table import sweep_table
from sekd.report.table import Table
from sekd.stages.distill.run import run_distillation
from sekd.stages.elicit.run import finished_elicitation
from sekd.stages.evaluate.run import check_evaluation, run_evaluation

logger = logging.getLogger(__name__)


class Swept(NamedTuple):
    """What the sweep comes to, its table, and why some students could not be trained."""

    content: dict[str, Any]
    table: Table
    failed: Mapping[str, str]


def run_sweep(config: RunConfig, *, retry_failed: bool = False) -> Swept:
    """Every student trained, then all of them evaluated at once, without controls.

    Raises:
        ConfigError: if the teacher is not finished, there is nothing to evaluate on, or no student
            could be trained.
        IncompleteError: shards of the evaluation are left.
    """

    finished_elicitation(config)
    check_evaluation(config)
    students = students_of(config)
    adapters, failed = _train(students)
    if not adapters:
        why = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ConfigError(f"sweep: no variant could be trained ({why or 'there is none'})")
    models = {name: EvaluatedModel(adapter=adapter) for name, adapter in adapters.items()}
    evaluation = config.evaluate.model_copy(update={"models": models, "controls": ()})
    done = run_evaluation(
        config.model_copy(update={"evaluate": evaluation}),
        None,  # its adapter is one of the variants', or none of the sweep's
        config.run_dir / "sweep",
        retry_failed=retry_failed,
    )
    return _written(config, students, done.figures, failed)


def _train(students: Sequence[Student]) -> tuple[dict[str, Path], dict[str, str]]:
    """Adapters by student, and why others failed; one that fails does not stop the others."""

    adapters, failed = {}, {}
    for number, student in enumerate(students, 1):
        logger.info("sweep: %s, %d of %d", student.name, number, len(students))
        try:
            adapters[student.name] = run_distillation(student.config)
        except Exception as error:
            logger.debug("%s failed", student.name, exc_info=True)
            failed[student.name] = in_one_line(error)
        free_memory()
    return adapters, failed


def _written(
    config: RunConfig,
    students: Sequence[Student],
    results: Evaluation,
    failed: Mapping[str, str],
) -> Swept:
    """The table and the plot, also in the run's folder of the sweep."""

    rows = rows_of(results, students)
    table = sweep_table(results, rows)
    notes = "".join(f"\n{name} failed: {reason}\n" for name, reason in failed.items())
    folder = config.run_dir / "sweep"
    write_atomically(folder / "table.md", f"{table.title}\n\n{to_markdown(table)}{notes}")
    write_atomically(folder / "table.csv", to_csv(table))
    write_atomically(folder / "plot.png", sweep_plot(results, rows))
    content = {
        "rows": [row.to_json() for row in rows],
        "references": {
            dataset: {name: rate.to_json() for name, rate in references(results, dataset).items()}
            for dataset in results.datasets
        },
        "failed": dict(failed),
    }
    return Swept(content, table, failed)
