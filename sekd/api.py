"""The library: what the commands of ``sekd`` compute, as functions with typed results.

    >>> from sekd import api
    >>> api.elicit("my.yaml")
    >>> api.distill("my.yaml")
    >>> evaluation = api.evaluate("my.yaml")
    >>> evaluation.rate("seen", "student", "joint", "hca").value  # percent

Every function that takes a config takes a path of a YAML file or what :func:`load_config` returns.
It writes the resolved config as ``<function>.config.yaml`` into the run directory: first, or with
the results that the config belongs to (:func:`evaluate`). Work that is done is not done again, so
the same call resumes a run that was stopped. What goes on is logged under the logger ``sekd``.

The commands parse their arguments, call these functions, and print what they return. torch,
transformers and vllm are imported when a function needs them, not with this module.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sekd.config import EngineName, ModelSpec, RunConfig, load_config, write_resolved
from sekd.io.locations import Location, expand_home, to_location
from sekd.io.torchrun import is_main_process

if TYPE_CHECKING:
    from sekd.analysis.audit import DataAudit
    from sekd.analysis.results import Evaluation
    from sekd.analysis.scoring.files import FileOptions
    from sekd.analysis.scoring.scorecard import FileScore
    from sekd.analysis.sweep import SweepResult
    from sekd.data.match_report import MatchReport
    from sekd.data.taxonomies.base import ParentRule
    from sekd.data.taxonomy_check import TaxonomyCheck
    from sekd.pipeline.status import StageStatus
    from sekd.report import ReportFiles
    from sekd.stages.benchmark.run import BenchmarkResult
    from sekd.stages.calibrate.run import Calibrated
    from sekd.stages.elicit.descents import Labelled
    from sekd.stages.elicit.estimate import ElicitationPlan
    from sekd.stages.elicit.run import Elicited
    from sekd.stages.inspect import TeacherAnswers
    from sekd.stages.model_check import ModelCheck
    from sekd.stages.rounds import RoundsResult

__all__ = [
    "RunConfig",
    "audit_data",
    "benchmark",
    "calibrate",
    "check_model",
    "check_taxonomy",
    "convert_taxonomy",
    "distill",
    "elicit",
    "evaluate",
    "inspect",
    "label",
    "load_config",
    "match_classes",
    "plan",
    "report",
    "rounds",
    "score",
    "status",
    "sweep",
]

logger = logging.getLogger(__name__)


def check_model(
    model: str | Path | ModelSpec, *, engine: EngineName = "transformers"
) -> ModelCheck:
    """Check whether a model of this machine can be taught, down to a dialogue about a picture.

        >>> checked = api.check_model(api.load_config("my.yaml").model)
        >>> checked.is_usable, checked.untested

    Args:
        model: a directory, a Hugging Face id, or the section ``model`` of a config.
        engine: runs the dialogue that the state pass is compared with.

    Raises:
        ConfigError: if there is no such model on this machine.
    """
    from sekd.stages.model_check import run_model_check

    spec = model if isinstance(model, ModelSpec) else ModelSpec(path=str(model))
    return run_model_check(spec, engine=engine)


def check_taxonomy(path: str | Path, *, level_names: Sequence[str] = ()) -> TaxonomyCheck:
    """Measure the shape of a taxonomy of any format, and find what is suspicious in it.

        >>> check = api.check_taxonomy("birds.json")
        >>> check.num_leaves, [suspicion.kind for suspicion in check.suspicions]

    Args:
        level_names: ranks of the levels of a path, or columns of a table, root first.

    Raises:
        ConfigError: if the taxonomy is malformed.
    """
    from sekd.data import taxonomy_check
    from sekd.data.taxonomy import Taxonomy

    taxonomy = Taxonomy.load(Path(path), level_names=tuple(level_names))
    return taxonomy_check.examine_taxonomy(taxonomy)


def convert_taxonomy(
    source: str | Path,
    target: str | Path,
    *,
    level_names: Sequence[str] = (),
    several_parents: ParentRule = "refuse",
    only: str | Path | None = None,
) -> int:
    """Write a taxonomy of any format as JSON or CSV; return the number of its leaves.

        >>> api.convert_taxonomy("birds.json", "birds.csv")

    Args:
        level_names: ranks of the levels of a path, or columns of a table, root first.
        several_parents: what is done with a node that has several parents.
        only: a text with one name or id of a leaf in each line; others are left out.

    Raises:
        ConfigError: if the taxonomy is malformed, or cannot be written in that format.
    """
    from sekd.data.taxonomy_writer import convert

    kept = Path(only) if only else None
    return convert(Path(source), Path(target), tuple(level_names), several_parents, kept)


def match_classes(config: RunConfig | str | Path, dataset: str) -> MatchReport:
    """Match the classes of a dataset with the leaves of its taxonomy; no image is opened.

        >>> report = api.match_classes("my.yaml", "train")
        >>> [match.label for match in report.unmatched]

    Raises:
        ConfigError: if the config, the taxonomy or the files of the dataset are wrong.
    """
    from sekd.data import match_report

    loaded = config if isinstance(config, RunConfig) else load_config(config)
    return match_report.report_matches(loaded.dataset(dataset, "dataset"))


def plan(config: RunConfig | str | Path, *, tflops: float = 100.0) -> ElicitationPlan:
    """Estimate what :func:`elicit` will cost, from a few samples and without the model.

        >>> api.plan("my.yaml", tflops=300).hours

    Args:
        tflops: TFLOP/s of one worker; used as long as no rate was measured.

    Raises:
        ConfigError: if the config or its data are wrong.
    """
    from sekd.stages.elicit.estimate import plan_elicitation

    return plan_elicitation(_prepare(config, "plan"), tflops=tflops)


def audit_data(config: RunConfig | str | Path, datasets: Sequence[str] = ()) -> DataAudit:
    """Find what data give away and where they disagree; every image is read.

        >>> audited = api.audit_data("my.yaml", ["seen"])
        >>> audited.questions[0].blind_hca  # percent
        >>> [overlap.datasets for overlap in audited.overlaps]

    Args:
        datasets: names of the config's datasets; all of them if none is given.

    Raises:
        ConfigError: if the config or its data are wrong.
    """
    from sekd.stages.audit import run_audit

    return run_audit(_prepare(config, "audit_data"), datasets)


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

    return run_elicitation(_prepare(config, "elicit"), retry_failed=retry_failed)


def label(
    config: RunConfig | str | Path, dataset: str | None = None, *, retry_failed: bool = False
) -> Labelled:
    """Label the images of a dataset by descent, whatever labels they have, and write a table.

    >>> api.label("my.yaml", "train").num_confident(0.8)  # elicit.dataset, if none is given
    """
    from sekd.stages.elicit.descents import run_descents

    config = _prepare(config, "label")
    return run_descents(config, dataset or config.elicit.dataset, retry_failed=retry_failed)


def inspect(run: str | Location) -> TeacherAnswers:
    """Open the teacher's answers of a run.

        >>> answers = api.inspect("runs/birds")
        >>> least_confident = answers.overview().least_confident
        >>> answers.sample(least_confident[0]).turns

    Raises:
        ConfigError: if no shard of answers is done.
    """
    from sekd.stages.inspect import TeacherAnswers

    return TeacherAnswers(to_location(run))


def distill(config: RunConfig | str | Path) -> Path:
    """Train the student on the teacher's shards; return the directory of its adapter.

    Under torchrun every process calls it.

        >>> adapter = api.distill("my.yaml")

    Raises:
        ConfigError: if the config is wrong, or :func:`elicit` is not finished for it.
        FatalError: if a loss or a gradient is not finite.
    """
    from sekd.stages.distill.run import run_distillation

    return run_distillation(_prepare(config, "distill"))


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

        >>> calibrated = api.calibrate("my.yaml", "val")
        >>> calibrated.fits["open"].levels[1].temperature

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

    return run_sweep(_prepare(config, "sweep"), retry_failed=retry_failed)


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

    return run_rounds(_prepare(config, "rounds"), retry_failed=retry_failed)


def benchmark(config: RunConfig | str | Path) -> BenchmarkResult:
    """Run general benchmarks of lmms-eval on base and student.

        >>> api.benchmark(api.load_config("my.yaml", ["benchmark.tasks=[gqa]"])).rows

    Raises:
        ConfigError: if no task is named, or lmms-eval cannot be started.
    """
    from sekd.stages.benchmark.run import run_benchmark

    return run_benchmark(_prepare(config, "benchmark"))


def score(
    predictions: str | Path,
    taxonomy: str | Path,
    *,
    level_names: Sequence[str] = (),
    compare: str | Path | None = None,
    only: Mapping[str, str] | None = None,
    score_root: bool = False,
    subtree_level: int | None = None,
    alpha: float = 0.95,
    num_bootstrap: int = 1000,
    options: FileOptions | None = None,
) -> FileScore:
    """Compute every metric, with its 95 % interval, of any file of predictions.

        >>> scored = api.score("mine.csv", "birds.json")
        >>> scored.cards[0].metrics.to_json()

    Args:
        predictions: a table of any format and layout that is known; see
            :mod:`sekd.analysis.scoring.resolve`.
        taxonomy: a taxonomy file, .json or .csv.
        level_names: names of a JSON taxonomy's levels.
        compare: other predictions for the same samples; differences to them are computed.
        only: column -> value; other rows are left out.
        score_root: also score the root, as level 0.
        subtree_level: level of the nodes whose subtrees are scored each by itself; 1 if not given.
        alpha: weight of the last level in DWPA, between 0 and 1.
        num_bootstrap: number of bootstrap draws behind the interval of each difference.
        options: what is told about the files: names of columns, truths from elsewhere, clusters.

    Raises:
        ConfigError: if a file cannot be read or resolved, or the two cannot be compared.
    """
    from sekd.analysis.scoring.scorecard import Scoring, score_file
    from sekd.data.taxonomy import Taxonomy

    return score_file(
        expand_home(Path(predictions)),
        Taxonomy.load(expand_home(Path(taxonomy)), level_names=tuple(level_names)),
        Scoring(subtree_level=subtree_level, alpha=alpha, num_bootstrap=num_bootstrap),
        compare=None if compare is None else expand_home(Path(compare)),
        only=only,
        score_root=score_root,
        options=options,
    )


def report(run: str | Location) -> ReportFiles:
    """Write ``report.html`` and its tables into the run directory of a finished evaluation.

        >>> api.report("runs/birds").page

    Raises:
        ConfigError: if the evaluation is not finished, or a file of it is damaged.
    """
    from sekd.report import write_report

    return write_report(to_location(run))


def status(run: str | Location) -> list[StageStatus]:
    """Return how far each stage of a run is, without loading a model.

    >>> [stage.name for stage in api.status("runs/birds") if not stage.is_complete]
    """
    from sekd.pipeline.status import run_status

    return run_status(to_location(run))


def _prepare(config: RunConfig | str | Path, name: str) -> RunConfig:
    """Load the config, and write it resolved beside the results."""
    loaded = config if isinstance(config, RunConfig) else load_config(config)
    if is_main_process():
        write_resolved(loaded, loaded.run_dir / f"{name}.config.yaml")
    return loaded
