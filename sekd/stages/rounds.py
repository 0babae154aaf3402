"""Rounds: the student becomes the teacher of the next student."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.analysis.cells import CellRows
from sekd.analysis.rounds import RoundResult, best_round, measure_gain
from sekd.config import BASE, STUDENT, RunConfig
from sekd.io.artefacts import write_artefact
from sekd.io.locations import Location
from sekd.models.loading import free_memory
from sekd.report.formats import format_interval, format_number
from sekd.report.rounds import rounds_table
from sekd.report.writers import to_markdown
from sekd.stages.distill.run import run_distillation
from sekd.stages.elicit.run import run_elicitation
from sekd.stages.evaluate.run import check_evaluation, run_evaluation
from sekd.stages.readiness import check_later_stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundsResult:
    """All finished rounds.

    Attributes:
        rounds: in order; the first is round 0, the base, where rounds are evaluated.
    """

    rounds: Sequence[RoundResult]

    @property
    def best(self) -> RoundResult:
        """The round whose student is the result."""
        return best_round(self.rounds)

    @property
    def stopped(self) -> str:
        """One line on why the last round is the last."""
        last = self.rounds[-1]
        if last.gain is None or not last.gain.is_noise:
            return f"round {last.number} is the last that the config's key rounds asks for"
        pooled = last.gain.pooled
        points = format_number(pooled.value, is_signed=True)
        interval = format_interval(pooled, is_signed=True)
        return (
            f"stopped: the gain of round {last.number}, {points} points ({interval}), is within "
            f"noise; the best is round {self.best.number}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``rounds.json``."""
        best = self.best
        return {
            "rounds": [finished.to_json() for finished in self.rounds],
            "best": best.number,
            "adapter": str(best.adapter) if best.adapter else None,
            "stopped": self.stopped,
        }


def run_rounds(config: RunConfig, *, retry_failed: bool = False) -> RoundsResult:
    """Elicit, distill and evaluate in turns, until a round gains nothing or all are done.

    Stages that are finished are not run again. Writes ``rounds.json`` and ``rounds.md`` into the
    run's folder ``rounds``.

    Raises:
        ConfigError: if what students learn is not to be evaluated, and as the stages do.
        IncompleteError: shards of a stage are left.
    """
    check_later_stages(config)
    if config.evaluate.datasets:
        check_evaluation(config)
    finished: list[RoundResult] = []
    paradigm = config.distill.learned_paradigm
    adapter: Path | None = None
    before: Sequence[CellRows] = ()  # the cells of the round before, or of the base
    for number in range(1, config.rounds + 1):
        logger.info("rounds: %d of %d at most", number, config.rounds)
        own_config = round_config(config, number, adapter)
        adapter = _run_round(own_config, retry_failed=retry_failed)
        if not config.evaluate.datasets:
            finished.append(RoundResult.of(number, adapter, None, None, paradigm))
            continue
        # Under the run's config, so that the rounds share the cells of the base.
        evaluated = run_evaluation(config, adapter, own_config.run_dir, retry_failed=retry_failed)
        evaluation, cells = evaluated.evaluation, evaluated.cells
        if number == 1:
            finished.append(RoundResult.of(0, None, evaluation, None, paradigm))
            gain = measure_gain(cells, cells, BASE, config.evaluate, paradigm)
        else:
            gain = measure_gain(cells, before, STUDENT, config.evaluate, paradigm)
        finished.append(RoundResult.of(number, adapter, evaluation, gain, paradigm))
        if gain.is_noise:
            break
        before = cells
    result = RoundsResult(finished)
    _write_rounds(result, config.run_dir / "rounds")
    return result


def round_config(config: RunConfig, number: int, adapter: Path | None) -> RunConfig:
    """Return the config of one round, counted from 1; the first is that of the run itself.

    Args:
        adapter: of the student of the round before, which is now the teacher and is trained
            further.
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


def _run_round(config: RunConfig, *, retry_failed: bool) -> Path:
    """Elicit and distill; return the student's adapter."""
    run_elicitation(config, retry_failed=retry_failed)
    adapter = run_distillation(config)
    free_memory()
    return adapter


def _write_rounds(result: RoundsResult, folder: Location) -> None:
    table = rounds_table(result.rounds)
    text = f"{table.title}\n\n{to_markdown(table)}\n{result.stopped}\n"
    content = json.dumps(result.to_json(), indent=1) + "\n"
    write_artefact(folder, "rounds", {"rounds.json": content, "rounds.md": text})
