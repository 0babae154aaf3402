"""Export: a folder with all that a stranger needs to ask a student, and the hub."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from sekd.config import ModelSpec
from sekd.data.samples import load_taxonomy
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.artefacts import artefact_names, record_files
from sekd.io.files import names_in, remove, replace_atomically, sizes_below, write_atomically
from sekd.models.adapters import CONFIG, is_adapter_file, read_adapter_config, read_processor_args
from sekd.models.merge import merged_model, write_processor
from sekd.models.usage import TAXONOMY, WORDING, Usage, write_usage_files
from sekd.stages.calibrate.files import CalibrationFile, calibrated_weights, find_calibration
from sekd.stages.distill.adapter import saved_modules
from sekd.stages.distill.card import CARD, hub_name, model_card
from sekd.stages.distill.curves import CSV_NAME, PNG_NAME, read_curves
from sekd.stages.export.evidence import gather_evidence
from sekd.stages.export.push import push_folder
from sekd.stages.export.source import ExportSource, find_source

logger = logging.getLogger(__name__)

EXPORT = "export"
"""Name of the record of all exported files but the card."""


@dataclass(frozen=True)
class Exported:
    """A folder that was exported.

    Attributes:
        folder: with the files.
        num_bytes: of all of them.
        is_merged: the adapter is merged into the weights of a whole model.
        is_calibrated: temperatures are with it.
        url: of the repository on the hub, if it was pushed.
    """

    folder: Path
    num_bytes: int
    is_merged: bool
    is_calibrated: bool
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what ``sekd export --json`` prints."""
        return {**asdict(self), "folder": str(self.folder)}


def run_export(
    source: str,
    folder: Path,
    *,
    is_merged: bool = False,
    licence: str | None = None,
    repository: str | None = None,
) -> Exported:
    """Write the student of a run, or an adapter, with what a stranger needs into a folder.

    Args:
        source: run directory, or folder of an adapter.
        folder: an earlier export there is replaced.
        is_merged: write a whole model, with the adapter merged into its weights.
        licence: of the student, in place of that of its base.
        repository: on the hub, to which the folder is pushed.

    Raises:
        FatalError: if the hub does not take it.
        ConfigError: if there is no student, its base is not on this machine, or the folder holds
            something else.
    """
    found = find_source(source)
    _refuse_other_folder(folder)
    if repository and not is_merged and hub_name(found.base) is None:
        logger.warning(
            "the base model is the folder %s of this machine, which nobody else has: say in the "
            "card which model it is, or export with --merge",
            found.base.path,
        )
    calibration = find_calibration(found.base, found.adapter)
    with replace_atomically(folder) as temporary:
        if is_merged:
            shutil.copytree(merged_model(found.base, found.adapter), temporary)
        else:
            temporary.mkdir(parents=True)
            _copy_adapter(found, temporary)
        _write_usage(found, temporary, is_merged=is_merged)
        if calibration is not None:
            _write_calibration(calibration, found.base, temporary, is_merged=is_merged)
        for name in (CSV_NAME, PNG_NAME):
            if (found.adapter / name).is_file():
                shutil.copyfile(found.adapter / name, temporary / name)
        card = _card(found, calibration, temporary, is_merged=is_merged, licence=licence)
        (temporary / CARD).write_text(card, encoding="utf-8")
        recorded = sorted(path for path in sizes_below(temporary) if path != CARD)
        record_files(temporary, temporary, EXPORT, recorded)
        remove(folder)
    num_bytes = sum(sizes_below(folder).values())
    exported = Exported(folder, num_bytes, is_merged, calibration is not None)
    return replace(exported, url=push_folder(folder, repository)) if repository else exported


def _refuse_other_folder(folder: Path) -> None:
    if folder.is_file() or (names_in(folder) and EXPORT not in artefact_names(folder)):
        raise ConfigError(f"{folder}: already there, and no export of sekd; give another folder")


def _copy_adapter(found: ExportSource, target: Path) -> None:
    """Copy what changes numbers; the base is called by its name on the hub, where it has one."""
    for path in found.adapter.iterdir():
        if is_adapter_file(path.name):
            shutil.copyfile(path, target / path.name)
    name = hub_name(found.base)
    content = read_adapter_config(target)
    if name is not None and content.get("base_model_name_or_path") != name:
        content["base_model_name_or_path"] = name
        write_atomically(target / CONFIG, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _write_usage(found: ExportSource, target: Path, *, is_merged: bool) -> None:
    """Write how the student is asked; a whole model has the settings of its processor in itself."""
    if found.usage is None:
        assert found.config is not None
        dataset = found.config.dataset(found.config.elicit.dataset, "elicit.dataset")
        write_usage_files(target, found.config, found.base, load_taxonomy(dataset))
    else:
        for name in (TAXONOMY, WORDING):
            shutil.copyfile(found.adapter / name, target / name)
    usage = found.usage or Usage.read(target)
    assert usage is not None
    changes: dict[str, object] = {"base_model": hub_name(found.base) or found.base.path}
    if is_merged:
        if usage.processor_args and read_processor_args(found.adapter) is None:
            write_processor(found.base, target)  # otherwise the merged copy has them already
        changes = {"base_model": None, "revision": None, "processor_args": {}}
    root = Taxonomy.load(target / TAXONOMY).root
    usage.model_copy(update={"root": root.name, **changes}).write(target)


def _write_calibration(
    calibration: CalibrationFile, base: ModelSpec, target: Path, *, is_merged: bool
) -> None:
    """Write the temperatures for the exported weights, which others than the student's may be."""
    spec = base.model_copy(update={"path": str(target), "revision": None}) if is_merged else base
    weights = calibrated_weights(spec, None if is_merged else target)
    calibration.model_copy(update={"model": weights}).write(target)


def _card(
    found: ExportSource,
    calibration: CalibrationFile | None,
    target: Path,
    *,
    is_merged: bool,
    licence: str | None,
) -> str:
    """Return the model card; without a run it is the one that the training wrote."""
    if found.config is None:
        card = ModelCard.load(found.adapter / CARD, ignore_metadata_errors=True)
        card.data.library_name = "transformers" if is_merged else "peft"
        card.data.license = licence or card.data.license
        return str(card)
    evidence = gather_evidence(
        found,
        calibration,
        Taxonomy.load(target / TAXONOMY),
        is_merged=is_merged,
        licence=licence,
    )
    return model_card(
        found.config, saved_modules(found.adapter), read_curves(found.adapter), evidence
    )
