"""Elicitation: the descents stage where labels are missing, the answers stage, the states stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.signals import ANSWERS, TRANSCRIPTS
from sekd.engines import check_serves
from sekd.errors import ConfigError
from sekd.io.hashing import digest
from sekd.pipeline.inputs import SampleInputs, ShardInputs
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import Plan
from sekd.pipeline.runner import IncompleteError, run_settings, run_stage
from sekd.pipeline.stage import Stage, find_finished
from sekd.stages.distill.images import compare_images
from sekd.stages.elicit.answers import AnswersWorker, answers_fields
from sekd.stages.elicit.descents import Labelled, finished_descents, run_descents
from sekd.stages.elicit.states import StatesWorker, states_fields
from sekd.stages.fingerprints import hash_images
from sekd.stages.readiness import check_later_stages
from sekd.stages.similar import with_similar


@dataclass(frozen=True)
class Elicited:
    """The finished stages of an elicitation.

    Attributes:
        labelled: the descents whose labels the questions were drawn around; ``None`` if the dataset
            has labels of its own.
    """

    answers: Manifest
    states: Manifest
    labelled: Labelled | None = None

    def pairs(self) -> list[tuple[int, int]]:
        """Return the index of each shard of answers with that of its states, in order."""
        states = self.states.shards_by_key()
        keys = self.answers.keys_of_files()
        return [(shard, states[key]) for shard, key in keys.items() if key in states]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Name of the stage -> fingerprint, which follows from the content of all its files."""
        return {"answers": self.answers.fingerprint, "states": self.states.fingerprint}

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
    """Run all stages of the teacher; shards that are done are not run again.

    Raises:
        IncompleteError: if shards are left.
        ConfigError, FatalError: as the stages raise them.
    """
    check_later_stages(config)
    check_serves(config.elicit.engine, config.model, config.elicit.adapter)
    compare_images(config)  # what the student's processor does not take is said before the teacher
    settings = run_settings(config.elicit.runtime, retry_failed=retry_failed)
    dataset, labelled = _labelled_dataset(config, partial(run_descents, retry_failed=retry_failed))
    answers_stage = Stage.open(
        config.run_dir / "answers",
        answers_fields(config, dataset),
        _answers_inputs(config, dataset),
    )
    answers = run_stage(answers_stage, partial(AnswersWorker, config, dataset), **settings)
    if answers.manifest is None:
        raise IncompleteError([answers])
    manifest = answers.manifest
    stage = Stage.open(
        config.run_dir / "states",
        states_fields(config, answers_stage.fingerprint),
        _states_inputs(answers_stage.plan, manifest),
    )
    answers_of = {key: shard for shard, key in manifest.keys_of_files().items()}
    files = manifest.files_by_shard(TRANSCRIPTS, ANSWERS).renumbered(
        {shard.index: answers_of[shard.key] for shard in stage.plan}
    )
    states = run_stage(stage, partial(StatesWorker, config, files), **settings)
    if states.manifest is None:
        raise IncompleteError([states])
    return Elicited(manifest, states.manifest, labelled)


def _labelled_dataset(
    config: RunConfig, label: Callable[[RunConfig, str], Labelled]
) -> tuple[Dataset, Labelled | None]:
    """Load the dataset that the teacher answers about, with labels by descents if it has none.

    Args:
        label: runs the stage of descents, or finds it finished.

    Raises:
        ConfigError: naming the file and the place of what is wrong.
    """
    name = config.elicit.dataset
    dataset, labelled = elicited_dataset(config), None
    if dataset.spec.options == "children":
        labelled = label(config, name)
        dataset = dataset.with_model_labels(labelled.labels)
    return with_similar(dataset), labelled


def elicited_dataset(config: RunConfig) -> Dataset:
    """Load the samples that the teacher answers about: the first ones, if there is a limit.

    Raises:
        ConfigError: naming the file and the place of what is wrong.
    """
    name = config.elicit.dataset
    return Dataset.load(name, config.dataset(name, "elicit.dataset")).first(config.elicit.limit)


def _answers_inputs(config: RunConfig, dataset: Dataset) -> SampleInputs:
    return SampleInputs.of(dataset, hash_images(dataset), config.elicit.runtime.shard_size)


def _states_inputs(plan: Plan, answers: Manifest) -> ShardInputs:
    """Make of each shard of answers one of states, unless all its samples were quarantined."""
    keys = answers.keys_of_files()
    quarantined = {sample["sample_id"] for sample in answers.quarantined}
    shards = {
        keys[shard.index]: tuple(i for i in shard.sample_ids if i not in quarantined)
        for shard in plan
    }
    return ShardInputs({key: ids for key, ids in shards.items() if ids})


def finished_elicitation(config: RunConfig) -> Elicited:
    """Find both finished stages of the teacher for this config and the data as they are now.

    Raises:
        ConfigError: if one is not finished; the message says what differs from what is there.
    """
    dataset, labelled = _labelled_dataset(config, finished_descents)
    fields = answers_fields(config, dataset)
    try:
        root = config.run_dir / "answers"
        plan, answers = find_finished(root, fields, _answers_inputs(config, dataset))
        root = config.run_dir / "states"
        states_inputs = _states_inputs(plan, answers)
        _, states = find_finished(root, states_fields(config, digest(fields)), states_inputs)
    except ConfigError as error:
        raise ConfigError(
            f"{root}: no finished {root.name} for this config and its data: {error}; run sekd "
            "elicit first"
        ) from error
    return Elicited(answers, states, labelled)
