"""A look at models, taxonomies, data, runs and files of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sekd.api.prepare import prepare
from sekd.config import EngineName, ModelSpec, RunConfig, load_config
from sekd.io.locations import Location, expand_home, to_location

if TYPE_CHECKING:
    from sekd.analysis.audit import DataAudit
    from sekd.analysis.scoring.files import FileOptions
    from sekd.analysis.scoring.scorecard import FileScore
    from sekd.data.match_report import MatchReport
    from sekd.data.taxonomies.base import ParentRule
    from sekd.data.taxonomy_check import TaxonomyCheck
    from sekd.pipeline.status import StageStatus
    from sekd.stages.inspect import TeacherAnswers
    from sekd.stages.model_check import ModelCheck


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

    return run_audit(prepare(config, "audit_data"), datasets)


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


def status(run: str | Location) -> list[StageStatus]:
    """Return how far each stage of a run is, without loading a model.

    >>> [stage.name for stage in api.status("runs/birds") if not stage.is_complete]
    """
    from sekd.pipeline.status import run_status

    return run_status(to_location(run))
