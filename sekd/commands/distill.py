"""``sekd distill``: a LoRA student from the teacher's shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands.elicit import Elicited
from sekd.commands.running import is_follower, on_this_machine, over_config
from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.pipeline.manifest import Manifest


@click.command()
@over_config
def distill(config: RunConfig, as_json: bool) -> bool:
    """Stage two: a LoRA student learns the joint prompt from the teacher's shards.

    Resumes from its last checkpoint. Start it with torchrun for several GPUs.

    \b
    Example:
        sekd distill configs/cub200-qwen2.5-vl-7b.yaml --set distill.losses.feature=0
    """
    adapter = run_distill(config)
    if not is_follower():
        click.echo(json.dumps({"adapter": str(adapter)}) if as_json else f"adapter: {adapter}")
    return True


def run_distill(config: RunConfig) -> Path:
    """The student's adapter, trained now if it is not there."""
    from sekd.data.signals import ANSWERS, STATE_ROWS, STATES, TRANSCRIPTS
    from sekd.data.taxonomy import Taxonomy
    from sekd.pipeline.folders import find_folder, publish_folder
    from sekd.pipeline.stage import open_directory
    from sekd.stages.distill import ranks
    from sekd.stages.distill.lessons import ShardFiles
    from sekd.stages.distill.train import distill_fields, train

    answers, states = finished_elicitation(config)
    dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
    taxonomy = Taxonomy.load(dataset.taxonomy, level_names=dataset.level_names)
    root = config.run_dir / "distill"

    def open_own() -> tuple[str, Path | None]:
        fields = distill_fields(config, states.fingerprint, states.hashes())
        directory = open_directory(root, fields)
        return directory.name, find_folder(directory, "adapter")

    name, adapter = ranks.agree(open_own)
    if adapter is None:
        dialogues = answers.groups(TRANSCRIPTS, ANSWERS)
        shards = [
            ShardFiles(*dialogues[shard], *files)
            for shard, files in states.groups(STATES, STATE_ROWS).items()
        ]
        here = on_this_machine(config.run_dir) / "distill" / name
        train(config, taxonomy, shards, here)
        adapter = ranks.agree(lambda: publish_folder(here, root / name, "adapter"))
    ranks.part()
    return adapter


def finished_elicitation(config: RunConfig) -> Elicited:
    """Both finished passes of the teacher under this config.

    Raises:
        ConfigError: if one is not finished; the message says how the newest other config differs.
    """
    from sekd.stages.elicit.answers import answers_spec
    from sekd.stages.elicit.states import states_spec

    return Elicited(
        answers=_finished(config, "answers", answers_spec(config)),
        states=_finished(config, "states", states_spec(config)),
    )


def _finished(config: RunConfig, stage: str, spec: dict[str, Any]) -> Manifest:
    """The manifest of a finished stage under this config."""
    from sekd.pipeline.stage import changes_since, finished

    root = config.run_dir / stage
    manifest = finished(root, spec)
    if manifest is not None:
        return manifest
    changes = changes_since(root, spec)
    reason = f"; what is there differs in {'; '.join(changes)}" if changes else ""
    raise ConfigError(f"{root}: no finished {stage} for this config{reason}; run sekd elicit first")
