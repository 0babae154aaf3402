"""Run the distillation stage: from a finished elicitation to the student's adapter."""

from __future__ import annotations

from pathlib import Path

from sekd.config import RunConfig
from sekd.data.samples import load_taxonomy
from sekd.data.signals import ANSWERS, STATE_ROWS, STATES, TRANSCRIPTS
from sekd.errors import ConfigError
from sekd.io.locations import local_directory
from sekd.models.wording import load_wording
from sekd.pipeline.folders import find_folder, publish_folder
from sekd.pipeline.stage import find_directories, open_directory
from sekd.stages.distill import distributed
from sekd.stages.distill.dataset import ShardFiles
from sekd.stages.distill.train import distill_fields, distill_spec, train
from sekd.stages.elicit.run import finished_elicitation


def run_distillation(config: RunConfig) -> Path:
    """Train the student, or find its finished adapter; return the adapter's directory here.

    Raises:
        ConfigError: if the elicitation of this config is not finished, or the wording of its
            replies has no letters.
    """
    dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
    if not load_wording(dataset.wording).has_letters:
        raise ConfigError(
            f"data.{config.elicit.dataset}.wording: {dataset.wording} has no {{letter}} in its "
            "line, and a student learns from letters; take another wording for the training"
        )
    elicited = finished_elicitation(config)
    answers, states = elicited.answers, elicited.states
    taxonomy = load_taxonomy(dataset)
    root = config.run_dir / "distill"

    def open_run() -> tuple[str, Path | None]:
        fields = distill_fields(config, states.fingerprint, states.hashes())
        directory = open_directory(root, fields)
        return directory.name, find_folder(directory, "adapter")

    name, adapter = distributed.broadcast_from_main(open_run)
    if adapter is None:
        transcripts_and_answers = answers.files_by_shard(TRANSCRIPTS, ANSWERS)
        shards = [
            ShardFiles(*transcripts_and_answers[shard], *states_and_rows)
            for shard, states_and_rows in states.files_by_shard(STATES, STATE_ROWS).items()
        ]
        local = local_directory(config.run_dir) / "distill" / name
        train(config, taxonomy, shards, local)
        adapter = distributed.broadcast_from_main(
            lambda: publish_folder(local, root / name, "adapter")
        )
    distributed.destroy_process_group()
    return adapter


def finished_adapter(config: RunConfig) -> Path | None:
    """Return the directory of the newest adapter trained under this config, or ``None``."""
    for directory in find_directories(config.run_dir / "distill", distill_spec(config)):
        adapter = find_folder(directory, "adapter")
        if adapter is not None:
            return adapter
    return None
