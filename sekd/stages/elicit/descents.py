"""The stage ``descents``: a model descends the taxonomy with each image, and so labels it.

Its shards together are the table of labels of ``sekd label``. The elicitation of a dataset with
``options: children`` runs it first, and then draws its questions around these labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import RunConfig
from sekd.data.labels import LABEL_SCHEMA, LABELS, DescentLabel, LabelTable, write_labels
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.engines import Conversation, Engine, check_serves, engine_version
from sekd.errors import ConfigError, ShardError
from sekd.io.files import write_atomically
from sekd.io.locations import Location
from sekd.models.adapters import adapted_spec, adapter_identity
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.runner import IncompleteError, run_settings, run_stage
from sekd.pipeline.stage import Stage, find_finished
from sekd.stages.descent import Descent, DescentLevel, descend
from sekd.stages.elicit.teacher import Teacher
from sekd.stages.fingerprints import (
    dataset_fields,
    hash_images,
    model_fields,
    settings_without_quiz,
)
from sekd.stages.prepare import PreparedSample

DESCENTS_VERSION = 3
"""Part of the fingerprint: raise it when the same input would give other rows."""


def descent_spec(config: RunConfig, name: str) -> dict[str, Any]:
    """Dump the settings that the descents of a dataset depend on, as JSON."""
    elicit = {"engine", "engine_args", "style", "answer", "permutations"}
    settings = config.elicit.model_dump(mode="json", include=elicit)
    if config.elicit.adapter:  # its content counts, not its path
        settings["adapter"] = adapter_identity(config.elicit.adapter, "elicit.adapter")
    return {
        "model": config.model.model_dump(mode="json"),
        "data": settings_without_quiz(config.data[name]),
        "elicit": settings,
        "descent": config.descent.model_dump(mode="json"),
    }


def descent_fields(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """Gather everything but the samples that the descents depend on: the fingerprint's fields."""
    return {
        "stage": "descents",
        "version": DESCENTS_VERSION,
        "spec": descent_spec(config, dataset.name),
        "engine": engine_version(config.elicit.engine),
        **model_fields(adapted_spec(config.model, config.elicit.adapter)),
        **dataset_fields(dataset),
    }


class DescentsWorker:
    """Turns shards of samples into labels.

    Args:
        engine: answers in place of the engine that the config names.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, engine: Engine | None = None) -> None:
        self._spec, self._descent, self._dataset = config.elicit, config.descent, dataset
        self._teacher = Teacher(config, dataset, engine)

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Descend with every sample of the shard; see :class:`sekd.pipeline.work.Worker`."""
        started = time.monotonic()
        rows, quarantined = self._teacher.converse(shard, self._label, advance)
        path = folder / "labels.parquet"
        write_labels(rows, path)
        if pq.read_table(path, schema=LABEL_SCHEMA).num_rows != len(rows):
            raise ShardError(f"{path}: does not read back as it was written")
        return ShardResult(
            files={LABELS: path},
            num_done=len(rows),
            quarantined=quarantined,
            stats={
                "seconds": time.monotonic() - started,
                "num_questions": sum(row.num_questions for row in rows),
                "num_prompt_tokens": sum(row.num_prompt_tokens for row in rows),
                "num_cached_tokens": sum(row.num_cached_tokens for row in rows),
            },
        )

    def close(self) -> None:
        """Free the engine."""
        self._teacher.close()

    def _label(self, prepared: PreparedSample) -> Conversation[DescentLabel]:
        descent = yield from descend(
            self._teacher.chat, self._dataset, prepared, self._descent, self._spec
        )
        return label_of(descent, prepared)


def label_of(descent: Descent, prepared: PreparedSample) -> DescentLabel:
    """Make the row of a descent."""
    best = descent.paths[0]
    return DescentLabel(
        sample_id=descent.sample_id,
        image=str(prepared.sample.image),
        image_sha256=prepared.image_key,
        label=best.leaf.id,
        probability=best.probability,
        levels=[_level_cells(level) for level in best.levels],
        paths=descent.path_cells,
        num_questions=descent.num_questions,
        num_prompt_tokens=descent.num_prompt_tokens,
        num_cached_tokens=descent.num_cached_tokens,
    )


def _level_cells(level: DescentLevel) -> dict[str, Any]:
    return {
        "level": level.level,
        "rank": level.rank,
        "node": level.node.id,
        "probability": level.probability,
        "path_probability": level.path_probability,
        "option_mass": level.option_mass,
        "children": [node.id for node in level.children],
        "probabilities": level.probabilities.tolist(),
    }


@dataclass(frozen=True)
class Labelled:
    """A finished stage of descents, and its table.

    Attributes:
        table: the labels of all samples, ``labels-<dataset>.parquet`` in the run's directory.
        confidences: a probability -> the number of samples whose path has at least this one.
    """

    dataset: str
    manifest: Manifest
    table: Location
    labels: LabelTable

    @property
    def num_samples(self) -> int:
        """Number of samples with a label; quarantined ones are not counted."""
        return self.manifest.num_samples

    @property
    def num_quarantined(self) -> int:
        """Number of samples that were set aside."""
        return len(self.manifest.quarantined)

    @property
    def num_questions(self) -> int:
        """Number of questions that the model answered."""
        return sum(self.manifest.stats("num_questions"))

    def num_confident(self, probability: float) -> int:
        """Return the number of samples whose path has at least this probability."""
        return int((self.labels.columns["probability"].to_numpy() >= probability).sum())


def run_descents(config: RunConfig, name: str, *, retry_failed: bool = False) -> Labelled:
    """Descend with every image of a dataset; shards that are done are not run again.

    Labels that the dataset has are not looked at.

    Raises:
        IncompleteError: if shards are left.
        ConfigError: if the config or its data are wrong, or every sample was set aside.
    """
    dataset = _unlabelled_dataset(config, name)
    check_serves(config.elicit.engine, config.model, config.elicit.adapter)
    outcome = run_stage(
        Stage.open(
            config.run_dir / "descents" / name,
            descent_fields(config, dataset),
            _inputs_of(config, dataset),
        ),
        partial(DescentsWorker, config, dataset),
        **run_settings(config.elicit.runtime, retry_failed=retry_failed),
    )
    if outcome.manifest is None:
        raise IncompleteError([outcome])
    labelled, table = _gather(config, name, outcome.manifest)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(labelled.table, buffer.getvalue().to_pybytes())
    return labelled


def finished_descents(config: RunConfig, name: str) -> Labelled:
    """Find the finished descents of a dataset for this config and the data as they are now.

    Raises:
        ConfigError: if they are not finished; the message says what differs from what is there.
    """
    dataset = _unlabelled_dataset(config, name)
    root = config.run_dir / "descents" / name
    try:
        fields = descent_fields(config, dataset)
        _, manifest = find_finished(root, fields, _inputs_of(config, dataset))
    except ConfigError as error:
        raise ConfigError(
            f"{root}: no finished descents for this config and its data: {error}; run sekd elicit "
            "first"
        ) from error
    return _gather(config, name, manifest)[0]


def _unlabelled_dataset(config: RunConfig, name: str) -> Dataset:
    """Load a dataset without the labels that it has."""
    changes = {"labels": None, "options": "children", "similar": None}
    spec = config.dataset(name, "dataset").model_copy(update=changes)
    limit = config.elicit.limit if name == config.elicit.dataset else None
    dataset = Dataset.load(name, spec).first(limit)
    return replace(dataset, samples=dataset.samples.without_labels())


def _inputs_of(config: RunConfig, dataset: Dataset) -> SampleInputs:
    return SampleInputs.of(dataset, hash_images(dataset), config.elicit.runtime.shard_size)


def _gather(config: RunConfig, name: str, manifest: Manifest) -> tuple[Labelled, pa.Table]:
    """Gather the labels of all shards.

    Raises:
        ConfigError: if every sample was set aside.
    """
    files = manifest.files(LABELS)
    table = pa.concat_tables([pq.read_table(path, schema=LABEL_SCHEMA) for path in files.values()])
    if not len(table):
        raise ConfigError(f"data.{name}: every sample was set aside; sekd status --failed says why")
    path = config.run_dir / f"labels-{name}.parquet"
    wanted = ["sample_id", "label", "probability", "image_sha256"]
    labels = LabelTable.of(table.select(wanted), str(path))
    return Labelled(name, manifest, path, labels), table
