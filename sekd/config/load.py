"""Read a config from YAML with overrides, and write it with every default filled in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from sekd.config.distill import DistillSpec
from sekd.config.messages import explain
from sekd.config.model import ModelSpec
from sekd.config.schema import RunConfig
from sekd.config.sweep import ABLATION
from sekd.errors import ConfigError, in_one_line
from sekd.io.artefacts import check_recorded, discard_artefact, write_artefact
from sekd.io.files import read_bytes
from sekd.io.locations import Location, to_location
from sekd.io.records import DamagedFileError
from sekd.io.yaml_files import YamlDumper, load_yaml


def load_config(path: str | Location, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply ``a.b=c`` overrides (whose values are YAML), and validate the result.

    Relative paths of datasets and ``run_dir`` start at the current directory.

    Raises:
        ConfigError: one line that names the file, the key and what was wrong.
    """
    path = to_location(path)
    try:
        content = load_yaml(read_bytes(path).decode())
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {in_one_line(str(error))}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys such as run_dir, model and data")
    return config_of(content, overrides, str(path))


def config_of(content: dict[str, Any], overrides: Sequence[str], path: str) -> RunConfig:
    """Apply overrides to the content of a config, and validate the result.

    Args:
        path: names the content in messages.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    for override in overrides:
        _apply_override(content, override)
    try:
        # Strict validation of JSON, unlike that of Python, takes lists as tuples, strings as paths.
        config = RunConfig.model_validate_json(json.dumps(content))
    except TypeError as error:
        raise ConfigError(f"{path}: {error} (write dates and the like in quotes)") from error
    except ValidationError as error:
        explained = "; ".join(explain(error, RunConfig))
        raise ConfigError(f"{path}: {explained}") from error
    for name, changes in config.sweep.variants.items():
        if changes == ABLATION.get(name):
            continue  # the user did not ask for it; the sweep leaves it out if it does not fit
        try:
            config.variant(name)
        except ValidationError as error:
            place = ("sweep", "variants", name)
            explained = "; ".join(explain(error, DistillSpec, place))
            raise ConfigError(f"{path}: {explained}") from error
    return config


_CONFIGS = tuple(
    f"{command}.config.yaml" for command in ("evaluate", "distill", "elicit", "label", "plan")
)
"""Resolved configs that a run may hold; the first that is there counts."""


def find_config(location: Location) -> Location | None:
    """Return the file itself, or the resolved config of a run; ``None`` if there is none."""
    if location.is_file():
        return location
    return next((location / name for name in _CONFIGS if (location / name).is_file()), None)


def load_run_config(location: Location, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file, or the resolved config of a run, which may have been moved since.

    Raises:
        ConfigError: if there is none, or as :func:`load_config`.
    """
    file = find_config(location)
    if file is None:
        raise ConfigError(
            f"{location}: no run of sekd and no config: none of {', '.join(_CONFIGS)} is in it"
        )
    if file is location:
        return load_config(file, overrides)
    try:
        check_recorded(file)
    except DamagedFileError as error:
        raise ConfigError(f"{error}; run the command that wrote it again") from error
    return load_config(file, overrides).model_copy(update={"run_dir": location})


def load_model_spec(path: str, overrides: Sequence[str] = ()) -> ModelSpec:
    """Make the section ``model`` of a config without the rest: a path, and ``model.b=c`` overrides.

    Raises:
        ConfigError: one line that names the key and what was wrong.
    """
    content: dict[str, Any] = {"model": {"path": path}}
    for override in overrides:
        _apply_override(content, override)
    if len(content) > 1:
        other = next(key for key in content if key != "model")
        raise ConfigError(f"--set {other}: only settings of model are of use here")
    try:
        return ModelSpec.model_validate_json(json.dumps(content["model"]))
    except TypeError as error:
        raise ConfigError(f"--set: {error} (write dates and the like in quotes)") from error
    except ValidationError as error:
        raise ConfigError("; ".join(explain(error, ModelSpec, ("model",)))) from error


def dump_resolved(config: RunConfig) -> str:
    """Return the config with every default filled in, as YAML."""
    content = config.model_dump(mode="json")
    return str(yaml.dump(content, Dumper=YamlDumper, sort_keys=False, allow_unicode=True))


def write_resolved(config: RunConfig, path: Location) -> None:
    """Write the config with every default filled in, as YAML, and a record of it."""
    discard_artefact(path.parent, path.stem)  # a kill now must leave no record of another config
    write_artefact(path.parent, path.stem, {path.name: dump_resolved(config)})


def _apply_override(content: dict[str, Any], override: str) -> None:
    """Set one value, given as ``a.b=c``, in the nested content of a config file."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value, e.g. elicit.engine=vllm")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {override}: {parent} has no keys below it")
    try:
        content[last] = load_yaml(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error
