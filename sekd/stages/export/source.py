"""Find what is exported: a student's adapter, its base, and the run that it comes from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from sekd.analysis.results import Evaluation
from sekd.config import STUDENT, ModelSpec, RunConfig, find_config, load_run_config
from sekd.errors import ConfigError
from sekd.io.files import names_in
from sekd.io.locations import Location, expand_home, to_location
from sekd.models.adapters import CONFIG, adapter_identity, check_adapter
from sekd.models.usage import Usage
from sekd.pipeline.stage import newest_first
from sekd.stages.distill.images import student_spec
from sekd.stages.distill.run import only_adapter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSource:
    """A student, and what is known about it.

    Attributes:
        adapter: directory of its adapter.
        base: the model that the adapter belongs to, with the processor arguments of the student.
        usage: how it is asked; ``None`` for an adapter of an earlier version.
        config: with which it was trained; ``None`` where its run is not there.
        evaluation: of its run; ``None`` if none is finished.
    """

    adapter: Path
    base: ModelSpec
    usage: Usage | None
    config: RunConfig | None
    evaluation: Evaluation | None


def find_source(path: str) -> ExportSource:
    """Find the student of a run, or of the folder of an adapter.

    Raises:
        ConfigError: if there is none, it is damaged, or nothing says how it is asked.
    """
    location = to_location(path)
    if isinstance(location, Path):
        location = expand_home(location)
        if (location / CONFIG).is_file():
            return _of_adapter(location)
    if not names_in(location):
        raise ConfigError(f"{path}: no run and no adapter there; give a run_dir, or an adapter")
    config = load_run_config(location)
    adapter = only_adapter(config)
    if adapter is None:
        raise ConfigError(f"{path}: no finished student in it; run sekd distill first")
    return _of_run(location, config, adapter)


def _of_adapter(adapter: Path) -> ExportSource:
    check_adapter(adapter, "the adapter")
    run = adapter.resolve().parents[2]  # RUN/distill/FINGERPRINT/adapter
    if find_config(run) is None:
        logger.info("%s: it is exported without results, as no run is around it", adapter)
        usage = Usage.read(adapter)
        if usage is None or usage.base_model is None:
            raise ConfigError(
                f"{adapter}: nothing there says how it is asked (sekd_usage.json), and no run is "
                "around it; export the run that it was trained in"
            )
        base = ModelSpec(
            path=usage.base_model,
            revision=usage.revision,
            dtype=usage.dtype,
            processor_args=usage.processor_args,
            chat_template_args=usage.chat_template_args,
        )
        return ExportSource(adapter, base, usage, None, None)
    return _of_run(run, load_run_config(run), adapter)


def _of_run(run: Location, config: RunConfig, adapter: Path) -> ExportSource:
    usage, evaluation = Usage.read(adapter), _evaluation_of(run, adapter)
    return ExportSource(adapter, student_spec(config), usage, config, evaluation)


def _evaluation_of(run: Location, adapter: Path) -> Evaluation | None:
    """Read the results of a run, unless they are those of another student."""
    try:
        evaluation = Evaluation.read(run)
    except ConfigError as error:
        logger.warning("the model card has no results: %s", error)
        return None
    identity = adapter_identity(adapter, "the student")
    for key in evaluation.cells:
        if key.model == STUDENT and not key.is_controlled:
            folder = run / "predictions" / f"{key.dataset}-{STUDENT}-{key.paradigm}"
            if not any(fields["adapter"] == identity for _, fields in newest_first(folder)):
                logger.warning(
                    "the model card has no results: those of %s are of another student; run sekd "
                    "evaluate again",
                    run,
                )
                return None
    return evaluation
