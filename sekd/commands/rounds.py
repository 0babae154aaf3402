"""``sekd rounds``: the student becomes the teacher, and again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sekd.commands.distill import run_distill
from sekd.commands.elicit import Elicited, run_elicit
from sekd.commands.evaluate import check_evaluation, run_evaluate
from sekd.commands.running import over_config, print_table, report_all_incomplete

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.pipeline.runner import Outcome
    from sekd.stages.report.table import Table
    from sekd.stages.rounds import Round

logger = logging.getLogger(__name__)


@click.command()
@click.option("--retry-failed", is_flag=True, help="Give shards that used up their attempts more.")
@over_config
def rounds(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Elicit, distill and evaluate in turns: each student is the teacher of the next.

    As often as the config's key rounds says, at most. It stops where the joint HCA, over the images
    of all evaluate.datasets together, did not rise beyond noise; so those should not be what the
    final figures are reported on. With evaluate.datasets=[] nothing is measured, and all rounds are
    run. The first round is the run's own; the others are below its folder rounds. What is done
    stays done, so the same command resumes.

    \b
    Example:
        sekd rounds my.yaml --set rounds=3
    """
    done = run_rounds(config, retry_failed=retry_failed)
    if isinstance(done, list):
        return report_all_incomplete(done, as_json)
    if as_json:
        click.echo(json.dumps(done.content))
        return True
    if done.table.has_figures:
        print_table(done.table)
    click.echo(f"{done.content['stopped']}\nadapter: {done.content['adapter'] or 'none'}")
    return True


class Alternated(NamedTuple):
    """What ``rounds.json`` holds, and the table of ``rounds.md``."""

    content: dict[str, Any]
    table: Table


def run_rounds(config: RunConfig, *, retry_failed: bool = False) -> Alternated | list[Outcome]:
    """Round after round; what is left where a stage could not be finished.

    Raises:
        ConfigError: what a stage raises, and if joint answers are not to be evaluated.
    """
    from sekd.config import BASE, STUDENT, write_resolved
    from sekd.stages.models import free_memory
    from sekd.stages.rounds import Round, gain_of, round_config

    if config.evaluate.datasets:
        check_evaluation(config)
    done: list[Round] = []
    adapter, before = None, None
    for number in range(1, config.rounds + 1):
        logger.info("rounds: %d of %d at most", number, config.rounds)
        own = round_config(config, number, adapter)
        write_resolved(own, own.run_dir / "evaluate.config.yaml")  # where sekd report looks
        elicited = run_elicit(own, retry_failed=retry_failed)
        if not isinstance(elicited, Elicited):
            return [elicited]
        adapter = run_distill(own)
        free_memory()
        if not config.evaluate.datasets:
            done.append(Round.of(number, adapter, None, None))
            continue
        # Under the run's config, so that the rounds share the cells of the base.
        evaluated = run_evaluate(config, adapter, own.run_dir, retry_failed=retry_failed)
        if isinstance(evaluated, list):
            return evaluated
        if before is None:
            done.append(Round.of(0, None, evaluated.figures, None))
            before, name = evaluated.results, BASE
        gain = gain_of(evaluated.results, before, name, config.evaluate)
        done.append(Round.of(number, adapter, evaluated.figures, gain))
        before, name = evaluated.results, STUDENT
        if gain.is_noise:
            break
    return _written(config, done)


def _written(config: RunConfig, done: Sequence[Round]) -> Alternated:
    """The table and why it ends there, also in the run's folder of the rounds."""
    from sekd.pipeline.files import write_atomically
    from sekd.stages.report.formats import interval, number, to_markdown
    from sekd.stages.rounds import best_of, rounds_table

    last, best = done[-1], best_of(done)
    stopped = f"round {last.number} is the last that the config's key rounds asks for"
    if last.gain and last.gain.is_noise:
        pooled = last.gain.pooled
        stopped = (
            f"stopped: the gain of round {last.number}, {number(pooled.value, signed=True)} points "
            f"({interval(pooled, signed=True)}), is within noise; the best is round {best.number}"
        )
    table = rounds_table(done)
    content = {
        "rounds": [each.to_json() for each in done],
        "best": best.number,
        "adapter": str(best.adapter) if best.adapter else None,
        "stopped": stopped,
    }
    folder = config.run_dir / "rounds"
    write_atomically(folder / "rounds.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / "rounds.md", f"{table.title}\n\n{to_markdown(table)}\n{stopped}\n")
    return Alternated(content, table)
