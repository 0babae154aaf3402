"""Rounds: the student becomes the teacher, and again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sekd.analysis.gains import gain_of
from sekd.config import BASE, STUDENT, RunConfig, write_resolved
from sekd.io.files import write_atomically
from sekd.models.loading import free_memory
from sekd.report.formats import interval_text, number, to_markdown
from sekd.report.rounds import Round, best_of, rounds_table
from sekd.report.table import Table
from sekd.stages.distill.run import run_distillation
from sekd.stages.elicit.run import run_elicitation
from sekd.stages.evaluate.run import check_evaluation, run_evaluation

logger = logging.getLogger(__name__)


def round_config(config: RunConfig, number: int, adapter: Path | None) -> RunConfig:
    """The config of one round, counted from 1; the first is that of the run itself.

    Args:
        adapter: of the student of the round before, which answers now and is trained further.
    """
    if number == 1:
        return config
    return config.model_copy(
        update={
            "run_dir": config.run_dir / "rounds" / str(number),
            "elicit": config.elicit.model_copy(update={"adapter": adapter}),
            "distill": config.distill.model_copy(update={"initial_adapter": adapter}),
            "rounds": 1,
        }
    )


class Alternated(NamedTuple):
    """What ``rounds.json`` holds, and the table of ``rounds.md``."""

    content: dict[str, Any]
    table: Table


def run_rounds(config: RunConfig, *, retry_failed: bool = False) -> Alternated:
    """Round after round; what is left where a stage could not be finished.

    Raises:
        ConfigError: what a stage raises, and if joint answers are not to be evaluated.
        IncompleteError: shards of a stage are left.
    """

    if config.evaluate.datasets:
        check_evaluation(config)
    done: list[Round] = []
    adapter, before = None, None
    for round_number in range(1, config.rounds + 1):
        logger.info("rounds: %d of %d at most", round_number, config.rounds)
        own = round_config(config, round_number, adapter)
        write_resolved(own, own.run_dir / "evaluate.config.yaml")  # where sekd report looks
        run_elicitation(own, retry_failed=retry_failed)
        adapter = run_distillation(own)
        free_memory()
        if not config.evaluate.datasets:
            done.append(Round.of(round_number, adapter, None, None))
            continue
        # Under the run's config, so that the rounds share the cells of the base.
        evaluated = run_evaluation(config, adapter, own.run_dir, retry_failed=retry_failed)
        if before is None:
            done.append(Round.of(0, None, evaluated.figures, None))
            before, name = evaluated.results, BASE
        gain = gain_of(evaluated.results, before, name, config.evaluate)
        done.append(Round.of(round_number, adapter, evaluated.figures, gain))
        before, name = evaluated.results, STUDENT
        if gain.is_noise:
            break
    return _written(config, done)


def _written(config: RunConfig, done: Sequence[Round]) -> Alternated:
    """The table and why it ends there, also in the run's folder of the rounds."""

    last, best = done[-1], best_of(done)
    stopped = f"round {last.number} is the last that the config's key rounds asks for"
    if last.gain and last.gain.is_noise:
        pooled = last.gain.pooled
        stopped = (
            f"stopped: the gain of round {last.number}, {number(pooled.value, signed=True)} "
            f"points ({interval_text(pooled, signed=True)}), is within noise; the best is round "
            f"{best.number}"
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
