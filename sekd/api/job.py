"""The stages of a run, from the plan to the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sekd.api.prepare import prepare
from sekd.config import RunConfig, load_config
from sekd.io.locations import Location, expand_home, to_location

if TYPE_CHECKING:
    from sekd.analysis.results import Evaluation
    from sekd.analysis.sweep import SweepResult
    from sekd.report import ReportFiles
    from sekd.stages.benchmark.run import BenchmarkResult
    from sekd.stages.calibrate.run import Calibrated
    from sekd.stages.elicit.descents import Labelled
    from sekd.stages.elicit.estimate import ElicitationPlan
    from sekd.stages.elicit.run import Elicited
    from sekd.stages.export.run import Exported
    from sekd.stages.rounds import RoundsResult

logger = logging.getLogger(__name__)


def plan(config: RunConfig | str | Path, *, tflops: float = 100.0) -> ElicitationPlan:
    """Estimate what :func:`elicit` will cost, from a few samples and without the model.

        >>> api.plan("my.yaml", tflops=300).hours

    Args:
        tflops: TFLOP/s of one worker; used as long as no rate was measured.

    Raises:
        ConfigError: if the config or its data are wrong.
    """
    from sekd.stages.elicit.estimate import plan_elicitation

    return plan_elicitation(prepare(config, "plan"), tflops=tflops)


def elicit(config: RunConfig | str | Path, *, retry_failed: bool = False) -> Elicited:
    """Run the frozen teacher over ``elicit.dataset`` and store its signals in shards.

        >>> elicited = api.elicit("my.yaml")
        >>> elicited.num_samples, elicited.num_quarantined

    Args:
        retry_failed: grant new attempts to shards that have used up theirs.

    Raises:
        IncompleteError: if shards are left; the same call repeats them.
        ConfigError: if the config or its data are wrong.
    """
    from sekd.stages.elicit.run import run_elicitation

    return run_elicitation(prepare(config, "elicit"), retry_failed=retry_failed)


def label(
    config: RunConfig | str | Path, dataset: str | None = None, *, retry_failed: bool = False
) -> Labelled:
    """Label the images of a dataset by descent, whatever labels they have, and write a table.

    >>> api.label("my.yaml", "train").num_confident(0.8)  # elicit.dataset, if none is given
    """
    from sekd.stages.elicit.descents import run_descents

    config = prepare(config, "label")
    return run_descents(config, dataset or config.elicit.dataset, retry_failed=retry_failed)


def distill(config: RunConfig | str | Path) -> Path:
    """Train the student on the teacher's shards; return the directory of its adapter.

    Under torchrun every process calls it.

        >>> adapter = api.distill("my.yaml")

    Raises:
        ConfigError: if the config is wrong, or :func:`elicit` is not finished for it.
        FatalError: if a loss or a gradient is not finite.
    """
    from sekd.stages.distill.run import run_distillation

    return run_distillation(prepare(config, "distill"))


def evaluate(config: RunConfig | str | Path, *, retry_failed: bool = False) -> Evaluation:
    """Measure the base, the finished student and the models of ``evaluate.models``.

    ``metrics.json``, ``metrics.md`` and ``predictions.parquet`` are written into the run directory.

        >>> evaluation = api.evaluate("my.yaml")
        >>> evaluation.rate("seen", "student", "joint", "hca").value  # percent

    Args:
        retry_failed: grant new attempts to shards that have used up theirs.

    Raises:
        IncompleteError: if shards of some cells are left; the same call repeats them.
        ConfigError: if the config or its data are wrong.
    """
    from sekd.stages.distill.run import finished_adapter
    from sekd.stages.evaluate.run import run_evaluation

    config = config if isinstance(config, RunConfig) else load_config(config)
    student = finished_adapter(config)
    if student is None:
        logger.info("no finished student for this config: evaluating without one")
    return run_evaluation(config, student, config.run_dir, retry_failed=retry_failed).evaluation


def calibrate(
    config: RunConfig | str | Path,
    dataset: str,
    model: str | None = None,
    *,
    retry_failed: bool = False,
) -> Calibrated:
    """Fit temperatures on labelled images, so that probabilities of paths mean what they say.

        >>> calibrated = api.calibrate("my.yaml", "seen")
        >>> calibrated.fits["descent"].levels[1].temperature

    Args:
        dataset: name of a dataset of the config, of images that no model was trained on.
        model: name of the model; the student if there is one, else the base.
        retry_failed: grant new attempts to shards that have used up theirs.

    Raises:
        IncompleteError: if shards of predictions are left; the same call repeats them.
        ConfigError: if the images have no labels, or the config or the data are wrong.
    """
    from sekd.stages.calibrate.run import run_calibration
    from sekd.stages.distill.run import finished_adapter

    loaded = config if isinstance(config, RunConfig) else load_config(config)
    student = finished_adapter(loaded)
    return run_calibration(loaded, student, dataset, model, retry_failed=retry_failed)


def sweep(config: RunConfig | str | Path, *, retry_failed: bool = False) -> SweepResult:
    """Train and evaluate the variants of the config section ``sweep``, side by side.

        >>> api.sweep("my.yaml").to_json()

    Args:
        retry_failed: grant new attempts to shards that have used up theirs.

    Raises:
        ConfigError: if the teacher is not finished, there is nothing to evaluate on, or no student
            could be trained.
        IncompleteError: if shards of the evaluation are left; the same call repeats them.
    """
    from sekd.stages.sweep import run_sweep

    return run_sweep(prepare(config, "sweep"), retry_failed=retry_failed)


def rounds(config: RunConfig | str | Path, *, retry_failed: bool = False) -> RoundsResult:
    """Elicit, distill and evaluate in turns: each student is the teacher of the next round.

        >>> api.rounds("my.yaml").best.adapter

    Args:
        retry_failed: grant new attempts to shards that have used up theirs.

    Raises:
        ConfigError: if the config or its data are wrong.
        IncompleteError: if shards of a stage are left; the same call repeats them.
    """
    from sekd.stages.rounds import run_rounds

    return run_rounds(prepare(config, "rounds"), retry_failed=retry_failed)


def benchmark(config: RunConfig | str | Path) -> BenchmarkResult:
    """Run general benchmarks of lmms-eval on base and student.

        >>> api.benchmark(api.load_config("my.yaml", ["benchmark.tasks=[gqa]"])).rows

    Raises:
        ConfigError: if no task is named, or lmms-eval cannot be started.
    """
    from sekd.stages.benchmark.run import run_benchmark

    return run_benchmark(prepare(config, "benchmark"))


def report(run: str | Location) -> ReportFiles:
    """Write ``report.html`` and its tables into the run directory of a finished evaluation.

        >>> api.report("runs/birds").page

    Raises:
        ConfigError: if the evaluation is not finished, or a file of it is damaged.
    """
    from sekd.report import write_report

    return write_report(to_location(run))


def export(
    source: str | Path,
    folder: str | Path,
    *,
    merge: bool = False,
    push: str | None = None,
    licence: str | None = None,
) -> Exported:
    """Write a student, and what a stranger needs to ask it, into a folder.

        >>> exported = api.export("runs/birds", "birds-student")
        >>> exported.folder, exported.is_calibrated

    Args:
        source: the directory of a run with a finished student, or of an adapter.
        folder: an earlier export there is replaced.
        merge: write a whole model, with the adapter merged into its weights.
        push: repository of the hub to upload to; without it no network is used.
        licence: of the student, in place of that of its base.

    Raises:
        ConfigError: if there is no student, or the folder holds something else.
        FatalError: if the hub does not take it; the folder stays.
    """
    from sekd.stages.export.run import run_export

    target = expand_home(Path(folder))
    return run_export(str(source), target, is_merged=merge, licence=licence, repository=push)
