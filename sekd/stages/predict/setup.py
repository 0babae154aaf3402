"""Find out what predicts: the model, its adapter, and which way it is asked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.config import DatasetSpec, DescentSpec, ElicitSpec, EvaluateSpec, ModelSpec, RunConfig
from sekd.data.taxonomy import Taxonomy
from sekd.engines import check_serves
from sekd.errors import ConfigError
from sekd.io.artefacts import artefact_names
from sekd.io.locations import expand_home
from sekd.models.adapters import adapted_spec, check_adapter
from sekd.models.loading import model_identity
from sekd.models.usage import Usage
from sekd.pipeline.stage import newest_first
from sekd.stages.distill.run import find_adapter
from sekd.stages.distill.train import distill_spec
from sekd.stages.path_rules import PathRules
from sekd.stages.predict.request import CheckedRequest, PredictionRequest, check_request

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictorSpec:
    """Everything that a predictor is opened with.

    Attributes:
        model: with the processor arguments that the adapter was trained with.
        dataset: its subject, wording, pixel limit and seed count.
        is_stepwise: descend level by level, instead of open naming in a single pass.
        descent, teacher: as ``descend`` takes them.
        evaluate: its engine and its runtime count.
    """

    model: ModelSpec
    adapter: Path | None
    dataset: DatasetSpec
    taxonomy: Taxonomy
    is_stepwise: bool
    num_paths: int
    rules: PathRules
    descent: DescentSpec
    teacher: ElicitSpec
    evaluate: EvaluateSpec


def set_up(request: PredictionRequest | CheckedRequest) -> PredictorSpec:
    """Find out what predicts; the log says what followed from files, and why.

    Raises:
        ConfigError: as :func:`~sekd.stages.predict.request.check_request`, if the adapter is
            damaged or of another model, or if the engine does not serve it.
    """
    checked = check_request(request) if isinstance(request, PredictionRequest) else request
    request, config, taxonomy = checked.request, checked.config, checked.taxonomy
    adapter = request.adapter
    if adapter is None and request.run is not None and request.model is None:
        adapter = _adapter_of_run(config)
    if adapter is not None:
        check_adapter(adapter, "--adapter")
        logger.info("the model answers with the adapter %s", adapter)
    model = adapted_spec(config.model, adapter)
    check_serves(config.evaluate.engine, model, adapter)
    usage = _usage_of(adapter, config.model)
    if usage is not None and usage.taxonomy != taxonomy.digest():
        logger.info("%s is another taxonomy than the one that was taught", taxonomy.source)
    without_quiz: dict[str, Any] = {"options": "children", "labels": None, "similar": None}
    beam = max(config.descent.beam, request.num_paths)
    return PredictorSpec(
        model=model,
        adapter=adapter,
        dataset=config.data[config.elicit.dataset].model_copy(update=without_quiz),
        taxonomy=taxonomy,
        is_stepwise=_choose_way(request, config, adapter, usage),
        num_paths=request.num_paths,
        rules=checked.rules,
        descent=config.descent.model_copy(update={"beam": beam}),
        teacher=config.elicit,
        evaluate=config.evaluate,
    )


def _adapter_of_run(config: RunConfig) -> Path | None:
    """Find the newest student of a run that was trained with the settings of its config.

    Its training data need not be there any more.

    Raises:
        ConfigError: if it is damaged, or was trained from another base model.
    """
    for directory, fields in newest_first(config.run_dir / "distill"):
        if fields["spec"] != distill_spec(config) or "adapter" not in artefact_names(directory):
            continue
        if fields["model"] != model_identity(config.model):
            raise ConfigError(
                f"{directory}: the student was trained from another base than {config.model.path} "
                "is now; name its own with --model, or the adapter with --adapter"
            )
        return find_adapter(directory)
    logger.info("%s: no finished student; the base model answers", config.run_dir)
    return None


def _usage_of(adapter: Path | None, model: ModelSpec) -> Usage | None:
    return Usage.read(expand_home(Path(model.path)) if adapter is None else adapter)


def _choose_way(
    request: PredictionRequest, config: RunConfig, adapter: Path | None, usage: Usage | None
) -> bool:
    """Return whether the model descends level by level, and say why."""
    formats = usage.formats if usage is not None else ()
    if usage is None and request.run is not None and adapter is not None and not request.adapter:
        formats = config.distill.formats  # an adapter of an earlier version keeps no record
    if request.is_stepwise is not None:
        is_stepwise, why = request.is_stepwise, "as you asked"
    elif "open" in formats:
        is_stepwise, why = False, "which the model learned"
    else:
        is_stepwise = True
        why = "because nothing says that the model learned to name a path in a single pass"
    way = "level by level (descent)" if is_stepwise else "in a single pass (open naming)"
    logger.info("paths are found %s, %s", way, why)
    return is_stepwise
