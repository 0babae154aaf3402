"""``sekd sweep``: the ablation of the paper in one command."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sekd.commands.distill import finished_elicitation, run_distill
from sekd.commands.evaluate import check_evaluation, run_evaluate
from sekd.commands.running import (
    in_one_line,
    over_config,
    print_table,
    report_all_incomplete,
)
from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.pipeline.runner import Outcome
    from sekd.stages.report.results import Results
    from sekd.stages.report.table import Table
    from sekd.stages.sweep.students import Student

logger = logging.getLogger(__name__)


@click.command()
@click.option("--retry-failed", is_flag=True, help="Give shards that used up their attempts more.")
@over_config
def sweep(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Train and evaluate the variants of config section sweep, side by side.

    Without one: the paper's ablation of the loss and two baselines of plain fine-tuning. Writes
    table.md, table.csv and plot.png into the run's folder sweep. What is done stays done, so the
    same command resumes, and takes up variants and seeds that were added.

    \b
    Example:
        sekd sweep configs/cub200-qwen2.5-vl-7b.yaml --set sweep.seeds=[0,1,2]
        sekd sweep my.yaml --set sweep.variants.small.lora.rank=16
    """
    done = run_sweep(config, retry_failed=retry_failed)
    if isinstance(done, list):
        return report_all_incomplete(done, as_json)
    if as_json:
        click.echo(json.dumps(done.content))
    else:
        print_table(done.table)
        click.echo(f"table and plot: {config.run_dir / 'sweep'}")
        for name, reason in done.failed.items():
            click.echo(f"{name} failed: {reason}", err=True)
    return not done.failed


class Swept(NamedTuple):
    """What the sweep comes to, its table, and why some students could not be trained."""

    content: dict[str, Any]
    table: Table
    failed: Mapping[str, str]


def run_sweep(config: RunConfig, *, retry_failed: bool = False) -> Swept | list[Outcome]:
    """Every student trained, then all of them evaluated at once, without controls.

    Raises:
        ConfigError: if the teacher is not finished, there is nothing to evaluate on, or no student
            could be trained.
    """
    from sekd.config import EvaluatedModel
    from sekd.stages.sweep.students import students_of

    finished_elicitation(config)
    check_evaluation(config)
    students = students_of(config)
    adapters, failed = _train(students)
    if not adapters:
        why = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ConfigError(f"sweep: no variant could be trained ({why or 'there is none'})")
    models = {name: EvaluatedModel(adapter=adapter) for name, adapter in adapters.items()}
    evaluation = config.evaluate.model_copy(update={"models": models, "controls": ()})
    done = run_evaluate(
        config.model_copy(update={"evaluate": evaluation}),
        None,  # its adapter is one of the variants', or none of the sweep's
        config.run_dir / "sweep",
        retry_failed=retry_failed,
    )
    return done if isinstance(done, list) else _written(config, students, done.figures, failed)


def _train(students: Sequence[Student]) -> tuple[dict[str, Path], dict[str, str]]:
    """Adapters by student, and why others failed; one that fails does not stop the others."""
    from sekd.stages.models import free_memory

    adapters, failed = {}, {}
    for number, student in enumerate(students, 1):
        logger.info("sweep: %s, %d of %d", student.name, number, len(students))
        try:
            adapters[student.name] = run_distill(student.config)
        except Exception as error:
            logger.debug("%s failed", student.name, exc_info=True)
            failed[student.name] = in_one_line(error)
        free_memory()
    return adapters, failed


def _written(
    config: RunConfig,
    students: Sequence[Student],
    results: Results,
    failed: Mapping[str, str],
) -> Swept:
    """The table and the plot, also in the run's folder of the sweep."""
    from sekd.pipeline.files import write_atomically
    from sekd.stages.report.formats import to_csv, to_markdown
    from sekd.stages.sweep.plot import sweep_plot
    from sekd.stages.sweep.rows import references, rows_of, sweep_table

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
