"""Find out what predicts: the model, its adapter, and which way it is asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sekd.config import DatasetSpec, DescentSpec, ElicitSpec, EvaluateSpec, ModelSpec, RunConfig
from sekd.data.taxonomy import Taxonomy
from sekd.engines import check_serves
from sekd.io.locations import Location, expand_home
from sekd.models.adapters import adapted_spec, check_adapter
from sekd.models.usage import Usage
from sekd.stages.calibrate.files import find_calibration
from sekd.stages.distill.run import only_adapter
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
    is_stepwise = _choose_way(request, config, adapter, usage)
    run = None if request.run is None or request.model else config.run_dir
    temperatures = _temperatures(model, adapter, run, taxonomy, is_stepwise=is_stepwise)
    without_quiz: dict[str, Any] = {"options": "children", "labels": None, "similar": None}
    beam = max(config.descent.beam, request.num_paths)
    return PredictorSpec(
        model=model,
        adapter=adapter,
        dataset=config.data[config.elicit.dataset].model_copy(update=without_quiz),
        taxonomy=taxonomy,
        is_stepwise=is_stepwise,
        num_paths=request.num_paths,
        rules=replace(checked.rules, temperatures=temperatures),
        descent=config.descent.model_copy(update={"beam": beam}),
        teacher=config.elicit,
        evaluate=config.evaluate,
    )


def _adapter_of_run(config: RunConfig) -> Path | None:
    adapter = only_adapter(config)
    if adapter is None:
        logger.info("%s: no finished student; the base model answers", config.run_dir)
    return adapter


def _temperatures(
    model: ModelSpec,
    adapter: Path | None,
    run: Location | None,
    taxonomy: Taxonomy,
    *,
    is_stepwise: bool,
) -> Mapping[int, float]:
    """Return level -> temperature, of the calibration of the model; none if it has none."""
    found = find_calibration(model, adapter, run)
    if found is None:
        logger.info("probabilities are uncalibrated: there is no calibration.json of this model")
        return {}
    return found.temperatures("descent" if is_stepwise else "open", taxonomy) or {}


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
