"""Check a request for predictions before any model library is imported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.config import ModelSpec, RunConfig
from sekd.config.load import config_of, find_config, load_run_config
from sekd.config.messages import nearest
from sekd.data.samples import load_taxonomy
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.locations import Location, expand_home, to_location
from sekd.models.usage import TAXONOMY, WORDING, Usage
from sekd.stages.path_rules import PathRules
from sekd.stages.restriction import Restriction

logger = logging.getLogger(__name__)

_DATASET = "images"
"""Name of the dataset where no config names one."""


@dataclass(frozen=True, kw_only=True)
class PredictionRequest:
    """The options of a prediction. Those that are not given follow from the files.

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


@dataclass(frozen=True)
class CheckedRequest:
    """A request whose files are there and fit together.

    Attributes:
        config: of the run, or made of the options.
        taxonomy: whose paths are predicted.
        rules: without temperatures.
    """

    request: PredictionRequest
    config: RunConfig
    taxonomy: Taxonomy
    rules: PathRules


def check_request(request: PredictionRequest) -> CheckedRequest:
    """Read everything that is read without a model, and check it.

    Raises:
        ConfigError: if there is no model or no taxonomy, or a file is missing or wrong.
    """
    _check_paths(request)
    config = _bare_config(request) if request.run is None else _config_of_run(request)
    taxonomy = load_taxonomy(config.dataset(config.elicit.dataset, "elicit.dataset"))
    if request.last_rank is not None and request.last_rank not in taxonomy.ranks:
        raise ConfigError(
            f"--rank {request.last_rank}: no rank of {taxonomy.source}"
            f"{nearest(request.last_rank, taxonomy.ranks)}"
        )
    restriction = Restriction.of(
        taxonomy, subtrees=request.subtrees, only=request.only, exclude=request.exclude
    )
    rules = PathRules(restriction, last_rank=request.last_rank)
    return CheckedRequest(request, config, taxonomy, rules)


def _check_paths(request: PredictionRequest) -> None:
    """Check that what is named is there, and names a model."""
    if request.model is None and request.adapter is None and request.run is None:
        raise ConfigError(
            "no model: name a run (--run), a model (--model), or an adapter that sekd trained "
            "(--adapter), which knows its base"
        )
    for option in ("taxonomy", "adapter", "only", "exclude"):
        path = getattr(request, option)
        if path is not None and path.name != "folders" and not expand_home(path).exists():
            raise ConfigError(f"--{option} {path}: no such file or folder")
    model = request.model or ""
    is_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    if is_path and not expand_home(Path(model)).is_dir():
        raise ConfigError(f"--model {model}: no such folder")


def _bare_config(request: PredictionRequest) -> RunConfig:
    """Make a config without a file: of the options, and of what the model's folder says."""
    usage = None if request.adapter is None else Usage.read(request.adapter)
    folder = request.adapter
    path = request.model or (usage.base_model if usage else None)
    if path is None:
        raise ConfigError(
            f"--adapter {request.adapter}: it does not say which model it belongs to; name it with "
            "--model, or a run with --run"
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
    config = load_run_config(to_location(request.run), request.overrides)
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
    return find_config(location) is not None
