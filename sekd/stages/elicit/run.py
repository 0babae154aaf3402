"""Elicitation: run the answers stage, then the states stage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.signals import ANSWERS, TRANSCRIPTS
from sekd.engines import check_serves
from sekd.errors import ConfigError
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import Plan
from sekd.pipeline.runner import IncompleteError, run_settings, run_stage
from sekd.pipeline.stage import Stage, changes_since, find_finished
from sekd.stages.distill.images import compare_images
from sekd.stages.elicit.answers import AnswersWorker, answers_fields, answers_spec
from sekd.stages.elicit.states import StatesWorker, states_fields, states_spec
from sekd.stages.fingerprints import hash_images
from sekd.stages.similar import with_similar


@dataclass(frozen=True)
class Elicited:
    """The two finished stages of an elicitation."""

    answers: Manifest
    states: Manifest

    @property
    def num_samples(self) -> int:
        """Number of samples with answers and states; quarantined ones are not counted."""
        return self.states.num_samples

    @property
    def num_quarantined(self) -> int:
        """Number of samples that have no answers, or no states."""
        return len(self.answers.quarantined) + len(self.states.quarantined)

    @property
    def num_answers(self) -> int:
        """Number of questions that the teacher answered."""
        return sum(self.answers.stats("num_answers"))

    @property
    def num_prompt_tokens(self) -> int:
        """Number of tokens of all prompts, images expanded."""
        return sum(self.answers.stats("num_prompt_tokens"))

    @property
    def num_cached_tokens(self) -> int:
        """Number of prompt tokens that the engine did not compute again."""
        return sum(self.answers.stats("num_cached_tokens"))

    @property
    def parity_max(self) -> float:
        """Largest difference in log-probability between engine and state pass, of one answer."""
        return max(self.states.stats("parity_max"))


def run_elicitation(config: RunConfig, *, retry_failed: bool = False) -> Elicited:
    """Run both stages of the teacher; shards that are done are not run again.

    Raises:
        IncompleteError: if shards are left.
        ConfigError, FatalError: as the stages raise them.
    """
    name, runtime = config.elicit.dataset, config.elicit.runtime
    check_serves(config.elicit.engine, config.model, config.elicit.adapter)
    compare_images(config)  # what the student's processor does not take is said before the teacher
    settings = run_settings(runtime, retry_failed=retry_failed)
    dataset = with_similar(Dataset.load(name, config.dataset(name, "elicit.dataset")))
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
    quarantined = {sample["sample_id"] for sample in manifest.quarantined}
    states = run_stage(
        Stage.open(
            config.run_dir / "states",
            states_fields(config, manifest.fingerprint, manifest.hashes()),
            partial(answers.stage.plan.without, quarantined),
        ),
        partial(StatesWorker, config, manifest.files_by_shard(TRANSCRIPTS, ANSWERS)),
        **settings,
    )
    if states.manifest is None:
        raise IncompleteError([states])
    return Elicited(manifest, states.manifest)


def finished_elicitation(config: RunConfig) -> Elicited:
    """Find both finished stages of the teacher under this config.

    Raises:
        ConfigError: if one is not finished; the message says how the newest other config differs.
    """
    return Elicited(
        answers=_finished_manifest(config, "answers", answers_spec(config)),
        states=_finished_manifest(config, "states", states_spec(config)),
    )


def _finished_manifest(config: RunConfig, stage: str, spec: dict[str, Any]) -> Manifest:
    root = config.run_dir / stage
    manifest = find_finished(root, spec)
    if manifest is not None:
        return manifest
    changes = changes_since(root, spec)
    reason = f"; what is there differs in {'; '.join(changes)}" if changes else ""
    raise ConfigError(f"{root}: no finished {stage} for this config{reason}; run sekd elicit first")
