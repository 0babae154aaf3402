"""Elicitation: the answers pass and the states pass, one after the other."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.signals import ANSWERS, TRANSCRIPTS
from sekd.errors import ConfigError
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import Plan
from sekd.pipeline.runner import IncompleteError, run_settings, run_stage
from sekd.pipeline.stage import Stage, changes_since, find_finished
from sekd.stages.elicit.answers import AnswersWorker, answers_fields, answers_spec
from sekd.stages.elicit.states import StatesWorker, states_fields, states_spec
from sekd.stages.fingerprints import hash_images


class Elicited(NamedTuple):
    """Both finished passes."""

    answers: Manifest
    states: Manifest


def run_elicitation(config: RunConfig, *, retry_failed: bool = False) -> Elicited:
    """Run both passes of the teacher; shards that are done are not run again.

    Raises:
        IncompleteError: shards are left.
        ConfigError, FatalError: as the passes raise them.
    """

    name, runtime = config.elicit.dataset, config.elicit.runtime
    settings = run_settings(runtime, retry_failed=retry_failed)
    dataset = Dataset.load(name, config.dataset(name, "elicit.dataset"))
    ids = dataset.samples.ids.to_pylist()
    answers = run_stage(
        Stage.open(
            config.run_dir / "answers",
            answers_fields(config, dataset, hash_images(dataset)),
            partial(Plan.split, ids, runtime.shard_size),
        ),
        partial(AnswersWorker, config, dataset),
        **settings,
    )
    if answers.manifest is None:
        raise IncompleteError([answers])
    manifest = answers.manifest
    states = run_stage(
        Stage.open(
            config.run_dir / "states",
            states_fields(config, manifest.fingerprint, manifest.hashes()),
            partial(answers.stage.plan.without, {bad["sample_id"] for bad in manifest.quarantined}),
        ),
        partial(StatesWorker, config, manifest.files_by_shard(TRANSCRIPTS, ANSWERS)),
        **settings,
    )
    if states.manifest is None:
        raise IncompleteError([states])
    return Elicited(manifest, states.manifest)


def finished_elicitation(config: RunConfig) -> Elicited:
    """Both finished passes of the teacher under this config.

    Raises:
        ConfigError: if one is not finished; the message says how the newest other config differs.
    """

    return Elicited(
        answers=_finished(config, "answers", answers_spec(config)),
        states=_finished(config, "states", states_spec(config)),
    )


def _finished(config: RunConfig, stage: str, spec: dict[str, Any]) -> Manifest:
    """The manifest of a finished stage under this config."""

    root = config.run_dir / stage
    manifest = find_finished(root, spec)
    if manifest is not None:
        return manifest
    changes = changes_since(root, spec)
    reason = f"; what is there differs in {'; '.join(changes)}" if changes else ""
    raise ConfigError(f"{root}: no finished {stage} for this config{reason}; run sekd elicit first")
