"""Find out what predicts: the model, its adapter, the taxonomy, and which way it is asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.config import DatasetSpec, DescentSpec, ElicitSpec, EvaluateSpec, ModelSpec, RunConfig
from sekd.config.load import config_of, load_config
from sekd.config.messages import nearest
from sekd.data.samples import load_taxonomy
from sekd.data.taxonomy import Taxonomy
from sekd.engines import check_serves
from sekd.errors import ConfigError
from sekd.io.artefacts import artefact_names
from sekd.io.locations import Location, expand_home, to_location
from sekd.models.adapters import adapted_spec, check_adapter
from sekd.models.loading import model_identity
from sekd.models.usage import TAXONOMY, WORDING, Usage
from sekd.pipeline.stage import newest_first
from sekd.stages.distill.run import find_adapter
from sekd.stages.distill.train import distill_spec
from sekd.stages.path_rules import PathRules
from sekd.stages.restriction import Restriction

logger = logging.getLogger(__name__)

_CONFIGS = tuple(
    f"{command}.config.yaml" for command in ("evaluate", "distill", "elicit", "label", "plan")
)
"""Resolved configs that a run may hold; the first that is there counts."""
_DATASET = "images"
"""Name of the dataset where no config names one."""


@dataclass(frozen=True, kw_only=True)
class PredictionRequest:
    """What a person says about a prediction; what is left open follows from the files.

    Attributes:
        model: directory or Hugging Face id of the base model, or of a whole exported one.
        adapter: directory of a PEFT adapter.
        run: directory of a run, or a config file.
        taxonomy: a taxonomy of any format.
        level_names: ranks of the levels of a path, or columns of a table, root first.
        overrides: ``key=value`` of the config, such as ``evaluate.engine=vllm``.
        is_stepwise: descend level by level; ``False`` names the whole path in a single pass;
            ``None`` takes the single pass where the model's own files say that it learned it.
        num_paths: number of paths for each image.
        last_rank: rank at which paths end.
        subtrees, only, exclude: as in :meth:`sekd.stages.restriction.Restriction.of`.
    """

    model: str | None = None
    adapter: Path | None = None
    run: str | Location | None = None
    taxonomy: Path | None = None
    level_names: Sequence[str] = ()
    overrides: Sequence[str] = ()
    is_stepwise: bool | None = None
    num_paths: int = 1
    last_rank: str | None = None
    subtrees: Sequence[str] = ()
    only: Path | None = None
    exclude: Path | None = None


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


def set_up(request: PredictionRequest) -> PredictorSpec:
    """Find out what predicts; the log says what followed from files, and why.

    Raises:
        ConfigError: if there is no model or no taxonomy, a file is wrong, or the engine does not
            serve the adapter.
    """
    if request.run is None:
        config, adapter = _bare_config(request), request.adapter
    else:
        config = _config_of_run(request)
        adapter = request.adapter or (None if request.model else _adapter_of_run(config))
    if adapter is not None:
        check_adapter(adapter, "--adapter")
        logger.info("the model answers with the adapter %s", adapter)
    model = adapted_spec(config.model, adapter)
    check_serves(config.evaluate.engine, model, adapter)
    spec = config.dataset(config.elicit.dataset, "elicit.dataset")
    without_quiz: dict[str, Any] = {"options": "children", "labels": None, "similar": None}
    spec = spec.model_copy(update=without_quiz)
    taxonomy = load_taxonomy(spec)
    _check_rank(request.last_rank, taxonomy)
    usage = _usage_of(adapter, config.model)
    if usage is not None and usage.taxonomy != taxonomy.digest():
        logger.info("%s is another taxonomy than the one that was taught", taxonomy.source)
    descent = config.descent
    beam = max(descent.beam, request.num_paths)
    return PredictorSpec(
        model=model,
        adapter=adapter,
        dataset=spec,
        taxonomy=taxonomy,
        is_stepwise=_choose_way(request, config, adapter, usage),
        num_paths=request.num_paths,
        rules=PathRules(
            Restriction.of(
                taxonomy, subtrees=request.subtrees, only=request.only, exclude=request.exclude
            ),
            last_rank=request.last_rank,
        ),
        descent=descent.model_copy(update={"beam": beam}),
        teacher=config.elicit,
        evaluate=config.evaluate,
    )


def _bare_config(request: PredictionRequest) -> RunConfig:
    """Make a config without a file: of the options, and of what the model's folder says."""
    usage = None if request.adapter is None else Usage.read(request.adapter)
    folder = request.adapter
    path = request.model or (usage.base_model if usage else None)
    if path is None:
        raise ConfigError(
            "no model: name a run (--run), a model (--model), or an adapter that sekd trained "
            "(--adapter), which knows its base"
        )
    if folder is None:
        folder = expand_home(Path(path))
        usage = Usage.read(folder)
    model: dict[str, Any] = {"path": path}
    dataset: dict[str, Any] = {"images": "."}
    elicit = {"dataset": _DATASET}
    content = {"run_dir": ".", "model": model, "data": {_DATASET: dataset}, "elicit": elicit}
    if usage is not None:
        settings = usage.model_dump(mode="json")
        of_model = ("dtype", "processor_args", "chat_template_args")
        model |= {key: settings[key] for key in of_model}
        if usage.revision is not None and request.model is None:
            model["revision"] = usage.revision
        dataset |= {key: settings[key] for key in ("subject", "pixel_limit")}
        dataset |= {"wording": str(folder / WORDING), "taxonomy": str(folder / TAXONOMY)}
        elicit["answer"] = usage.answer
    dataset |= _taxonomy_settings(request)
    if "taxonomy" not in dataset:
        raise ConfigError("no taxonomy: name its file (--taxonomy), or a run that has one (--run)")
    return config_of(content, request.overrides, "sekd predict")


def _taxonomy_settings(request: PredictionRequest) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if request.taxonomy is not None:
        settings["taxonomy"] = str(expand_home(request.taxonomy))
        settings["level_names"] = list(request.level_names)
    elif request.level_names:
        raise ConfigError("--level-names: belongs to a --taxonomy")
    return settings


def _config_of_run(request: PredictionRequest) -> RunConfig:
    """Load the config of a run; the options count before it.

    Raises:
        ConfigError: if it has none.
    """
    assert request.run is not None
    location = to_location(request.run)
    file = _config_file(location)
    if file is None:
        raise ConfigError(
            f"{location}: no run of sekd and no config: none of {', '.join(_CONFIGS)} is in it"
        )
    config = load_config(file, request.overrides)
    if file is not location:
        config = config.model_copy(update={"run_dir": location})  # it may have been moved
    changes: dict[str, Any] = (
        {} if request.model is None else {"model": ModelSpec(path=request.model)}
    )
    settings = _taxonomy_settings(request)
    if settings:
        name = config.elicit.dataset
        spec = config.dataset(name, "elicit.dataset").model_copy(
            update={
                "taxonomy": Path(settings["taxonomy"]),
                "level_names": tuple(settings["level_names"]),
            }
        )
        changes["data"] = {**config.data, name: spec}
    return config.model_copy(update=changes)


def is_run(location: Location) -> bool:
    """Tell whether this is a config, or the directory of a run that has one."""
    return _config_file(location) is not None


def _config_file(location: Location) -> Location | None:
    if location.is_file():
        return location
    return next((location / name for name in _CONFIGS if (location / name).is_file()), None)


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
    way = "level by level (descent)" if is_stepwise else "a single pass (open naming)"
    logger.info("paths are found in %s, %s", way, why)
    return is_stepwise


def _check_rank(rank: str | None, taxonomy: Taxonomy) -> None:
    if rank is not None and rank not in taxonomy.ranks:
        raise ConfigError(
            f"--rank {rank}: no rank of {taxonomy.source}{nearest(rank, taxonomy.ranks)}"
        )
