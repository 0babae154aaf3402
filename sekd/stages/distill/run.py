"""Run the distillation stage: from a finished elicitation to the student's adapter."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sekd.config import RunConfig
from sekd.data.child_probabilities import has_children
from sekd.data.labels import LABELS
from sekd.data.samples import load_taxonomy
from sekd.data.signals import ANSWERS, STATE_ROWS, STATES, TRANSCRIPTS
from sekd.errors import ConfigError
from sekd.io.artefacts import artefact_names
from sekd.io.folders import find_folder, publish_folder, reuse_folder
from sekd.io.hashing import digest, hash_file
from sekd.io.locations import Location, local_directory
from sekd.io.records import DamagedFileError
from sekd.models.adapters import is_adapter_file
from sekd.models.loading import model_identity
from sekd.models.wording import load_wording
from sekd.pipeline.fingerprint import differences
from sekd.pipeline.manifest import FilesByShard
from sekd.pipeline.sole_process import sole_process
from sekd.pipeline.stage import newest_first, open_directory
from sekd.stages.calibrate.files import CalibrationFile
from sekd.stages.distill import distributed
from sekd.stages.distill.checkpoints import TrainingInputs
from sekd.stages.distill.dataset import ShardFiles
from sekd.stages.distill.train import distill_fields, distill_spec, train
from sekd.stages.elicit.run import Elicited, finished_elicitation


def run_distillation(config: RunConfig) -> Path:
    """Train the student, or find its finished adapter; return the adapter's directory here.

    Raises:
        ConfigError: if the elicitation of this config is not finished, the wording of its
            replies has no letters, or another process trains this student.
    """
    dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
    if "quiz" in config.distill.formats and not load_wording(dataset.wording).has_letters:
        raise ConfigError(
            f"data.{config.elicit.dataset}.wording: {dataset.wording} has no {{letter}} in its "
            "line, and a student of the quiz learns from letters; take another wording for the "
            "training, or distill.formats: [open]"
        )
    taxonomy = load_taxonomy(dataset)
    root = config.run_dir / "distill"

    def open_run() -> tuple[Elicited, TaughtDescent, str, Path | None]:
        elicited = finished_elicitation(config)
        descent = descent_of(config, elicited)
        directory = open_directory(root, _fields_of(config, elicited, descent))
        hashes = elicited.fingerprints | descent.hashes

        def reuse() -> Path | None:
            return reuse_folder(directory, "adapter", hashes, is_adapter_file)

        adapter = reuse()
        if adapter is None:
            training.enter_context(sole_process(directory, "trains"))
            adapter = reuse()  # another process may have ended meanwhile
        return elicited, descent, directory.name, adapter

    with ExitStack() as training:
        elicited, descent, name, adapter = distributed.broadcast_from_main(open_run)
        if adapter is None:
            answers = elicited.answers.files_by_shard(TRANSCRIPTS, ANSWERS)
            states = elicited.states.files_by_shard(STATES, STATE_ROWS)
            shards = [ShardFiles(*answers[one], *states[other]) for one, other in elicited.pairs()]
            local = local_directory(config.run_dir) / "distill" / name
            hashes = elicited.fingerprints | descent.hashes
            inputs = TrainingInputs(hashes, lambda: _read_through(answers, states), descent.labels)
            train(config, taxonomy, shards, local, inputs)
            adapter = distributed.broadcast_from_main(
                lambda: publish_folder(local, root / name, "adapter", hashes)
            )
    distributed.destroy_process_group()
    return adapter


def finished_adapter(config: RunConfig) -> Path | None:
    """Return the directory of the adapter that this config and its data give, or ``None``.

    Raises:
        ConfigError: if the adapter is damaged; or there is a finished adapter for the settings of
            this config alone: its data, its model or what was elicited are other ones now.
    """
    root = config.run_dir / "distill"
    fields: dict[str, Any] | None = None
    try:
        elicited = finished_elicitation(config)
        fields = _fields_of(config, elicited, descent_of(config, elicited))
    except ConfigError as error:
        reason = str(error)
    else:
        adapter = find_adapter(root / digest(fields)[:16])
        if adapter is not None:
            return adapter
    for directory, earlier in newest_first(root):
        if earlier["spec"] == distill_spec(config) and "adapter" in artefact_names(directory):
            if fields is not None:
                reason = "; ".join(differences(earlier, fields))
            raise ConfigError(
                f"{directory}: the student was trained on something else than there is now: "
                f"{reason}; train it again, or evaluate it as it is with "
                f"--set evaluate.models.NAME.adapter={directory / 'adapter'} and another run_dir"
            )
    return None


def only_adapter(config: RunConfig) -> Path | None:
    """Return the adapter that was trained with the settings of a config, or ``None``.

    Unlike :func:`finished_adapter`, this needs neither the data nor what was elicited, unless there
    are several, of different states of the data. Then it is that of the data as they are now, and
    not the newest.

    Raises:
        ConfigError: if it is damaged, or was trained from another base model than there is now; or
            there are several, and none is that of the data as they are now.
    """
    students = [
        (directory, fields)
        for directory, fields in newest_first(config.run_dir / "distill")
        if fields["spec"] == distill_spec(config) and "adapter" in artefact_names(directory)
    ]
    if len(students) > 1:
        try:
            return finished_adapter(config)
        except ConfigError as error:
            names = " or ".join(str(directory / "adapter") for directory, _ in students)
            raise ConfigError(f"{error}; or name one of its students: {names}") from error
    for directory, fields in students:
        if fields["model"] != model_identity(config.model):
            raise ConfigError(
                f"{directory}: the student was trained from another base than {config.model.path} "
                "is now, or with another version of transformers"
            )
        return find_adapter(directory)
    return None


def find_adapter(directory: Location) -> Path | None:
    """Return the adapter of one directory of the stage, or ``None`` if it is not finished.

    That of a remote store is a copy on this machine, with the calibration that is there now.

    Raises:
        ConfigError: if it is damaged.
    """
    try:
        adapter = find_folder(directory, "adapter", is_adapter_file)
    except DamagedFileError as error:
        raise ConfigError(
            f"{error}; run sekd distill again, which makes it again from the last checkpoint"
        ) from error
    if adapter is not None and not isinstance(directory, Path):
        calibration = CalibrationFile.read(directory / "adapter")
        if calibration is not None:
            calibration.write(adapter)
    return adapter


def adapter_location(run: Location, adapter: Path) -> Location:
    """Return where a run keeps an adapter, of which this one may be a copy on this machine."""
    for directory, _ in newest_first(run / "distill"):
        if not isinstance(directory, Path) and find_adapter(directory) == adapter:
            return directory / "adapter"
    return adapter


@dataclass(frozen=True)
class TaughtDescent:
    """The tables of a descent of which open naming learns.

    Attributes:
        hashes: of their content, as ``descent``; empty if there are none.
    """

    labels: tuple[Path, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)


def descent_of(config: RunConfig, elicited: Elicited) -> TaughtDescent:
    """Find what a descent says about all children, where open naming learns from it."""
    if "open" not in config.distill.formats or not config.distill.losses.soft:
        return TaughtDescent()
    if elicited.labelled is not None:
        manifest = elicited.labelled.manifest
        return TaughtDescent(
            tuple(manifest.files(LABELS).values()), {"descent": manifest.fingerprint}
        )
    labels = config.data[config.elicit.dataset].labels
    if labels is None or not has_children(labels):
        return TaughtDescent()
    return TaughtDescent((labels,), {"descent": hash_file(labels)})


def _fields_of(config: RunConfig, elicited: Elicited, descent: TaughtDescent) -> dict[str, Any]:
    return distill_fields(config, {"states": elicited.states.fingerprint} | descent.hashes)


def _read_through(*shards: FilesByShard) -> None:
    """Look every file up, which checks it.

    Raises:
        ShardError: if one is not what was committed.
    """
    for files in shards:
        for _ in files.values():
            pass
