"""A cell of the evaluation: one model on one dataset, under one paradigm and one control or none.

Each is a stage of its own, so that what is finished stands when another one is added.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from sekd.config import Control, EvaluateSpec, Paradigm, RunConfig
from sekd.data.predictions import (
    NO_CONTROL,
    PREDICTIONS,
    Prediction,
    read_predictions,
    write_predictions,
)
from sekd.data.samples import Dataset
from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.engines import Conversation, engine_version
from sekd.engines.metering import Cost, metered
from sekd.errors import ConfigError, ShardError
from sekd.models.chat import Chat
from sekd.stages.evaluate.candidates import Candidate, EngineCache, OpenCandidate, open_candidate
from sekd.stages.evaluate.controls import controlled_dataset, controlled_samples, why_not
from sekd.stages.evaluate.paradigms import LevelAnswer, measure_letters, run_paradigm
from sekd.stages.walk import PreparedSample, prepare_samples, quarantine_errors

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Answers: TypeAlias = Mapping[str, Sequence[Sequence[LevelAnswer]]]
"""Sample id -> rotation -> level by level."""

PREDICTIONS_VERSION = 3
"""Part of the fingerprint: raise it when the same input would give other rows."""


@dataclass(frozen=True)
class EvaluationCell:
    """What is asked.

    Attributes:
        dataset: as the control asks about it, see
            :func:`~sekd.stages.evaluate.controls.controlled_dataset`.
    """

    contender: Candidate
    dataset: Dataset
    paradigm: Paradigm
    control: Control | None = None

    @property
    def names(self) -> dict[str, str]:
        """What its rows have in common."""
        return {
            "model": self.contender.name,
            "dataset": self.dataset.name,
            "paradigm": self.paradigm,
            "control": self.control or NO_CONTROL,
        }

    @property
    def folder(self) -> str:
        """Name of its stage."""
        parts = [self.dataset.name, self.contender.name, self.paradigm, self.control]
        return "-".join(part for part in parts if part)


def cells_of(
    config: RunConfig, contenders: Sequence[Candidate], datasets: Sequence[Dataset]
) -> list[EvaluationCell]:
    """All cells that need a model, those of one contender together.

    Raises:
        ConfigError: if a dataset has no fixed questions.
    """
    spec = config.evaluate
    asked = {dataset.name: _under_controls(spec, dataset) for dataset in datasets}
    return [
        EvaluationCell(contender, under, paradigm, control)
        for contender in contenders
        for dataset in datasets
        for paradigm in spec.paradigms
        for control, under in asked[dataset.name].items()
    ]


def _under_controls(spec: EvaluateSpec, dataset: Dataset) -> dict[Control | None, Dataset]:
    """The dataset as it is asked about without a control, and under each that makes sense."""
    if dataset.spec.distractors == "walk":
        raise ConfigError(
            f"data.{dataset.name}.distractors: walk has no fixed questions to score; "
            "take random or siblings"
        )
    under: dict[Control | None, Dataset] = {None: dataset}
    limited = dataset.first(spec.control_limit) if spec.control_limit else dataset
    for control in spec.controls:
        reason = why_not(control, dataset)
        if reason:
            logger.info("%s is not evaluated under %s: %s", dataset.name, control, reason)
        elif control != "taxonomy":  # which needs no model
            under[control] = controlled_dataset(control, limited)
    return under


def cell_fields(
    config: RunConfig, cell: EvaluationCell, dataset_fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that a cell's rows depend on: hashed, it is their fingerprint.

    Args:
        dataset_fields: see :func:`sekd.stages.elicit.answers.dataset_fields`.
    """
    spec = config.evaluate
    own: dict[str, Any] = {"engine": spec.engine, "engine_args": spec.engine_args}
    if cell.control == "shuffled":
        own["seed"] = spec.seed
    settings = {
        "cell": cell.names,
        "model": cell.contender.spec.model_dump(mode="json"),
        "data": cell.dataset.spec.model_dump(mode="json"),
        "evaluate": own,
    }
    if cell.paradigm == "conditioned":
        walk = {"style", "answer", "permutations"}
        settings["elicit"] = config.elicit.model_dump(mode="json", include=walk)
    return {
        "stage": "predictions",
        "version": PREDICTIONS_VERSION,
        "spec": settings,
        "engine": engine_version(spec.engine),
        **cell.contender.fields,
        **dataset_fields,
    }


@dataclass(frozen=True)
class SampleAnswers:
    """One sample's answers, rotation by rotation, and what they cost."""

    sample_id: str
    answers: Sequence[Sequence[LevelAnswer]]
    cost: Cost


class CellWorker:
    """Turns shards of labelled samples into the predictions of one cell.

    Args:
        kept: opens the engine and keeps it open; without it the engine is the worker's own.
    """

    def __init__(
        self, config: RunConfig, cell: EvaluationCell, kept: EngineCache | None = None
    ) -> None:
        self._spec, self._teacher, self._cell = config.evaluate, config.elicit, cell
        self._own: OpenCandidate | None = None
        if kept is None:
            opened = self._own = open_candidate(cell.contender, config.evaluate)
        else:
            opened = kept.open(cell.contender, config.evaluate)
        self._engine = opened.engine
        self._chat = Chat(
            opened.processor,
            subject=cell.dataset.spec.subject,
            answer=config.elicit.answer,
            with_image=cell.control != "blind",
        )

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Ask about every sample; see :class:`sekd.pipeline.work.Worker`."""
        ids = shard.sample_ids
        quarantined: list[Quarantined] = []
        done: dict[str, SampleAnswers] = {}
        started = time.monotonic()
        for outcome in self._run(ids, self._ask, quarantined):
            if isinstance(outcome, Quarantined):
                quarantined.append(outcome)
            else:
                done[outcome.sample_id] = outcome
            advance(1)
        seconds = time.monotonic() - started
        answers: Answers = {sample_id: asked.answers for sample_id, asked in done.items()}
        if self._cell.paradigm == "joint":
            answers = {**answers, **self._measured(answers)}
        rows = [
            self._row(sample_id, rotation, given)
            for sample_id in ids
            for rotation, some in enumerate(answers.get(sample_id, ()))
            for given in some
        ]
        path = folder / "predictions.parquet"
        write_predictions(rows, path)
        if len(read_predictions([path])) != len(rows):
            raise ShardError(f"{path}: does not read back as it was written")
        cost = sum((asked.cost for asked in done.values()), Cost())
        return ShardResult(
            files={PREDICTIONS: path},
            num_done=len(done),
            quarantined=quarantined,
            stats={"seconds": seconds, **cost.to_json()},
        )

    def close(self) -> None:
        """Free the engine, if it is this worker's own."""
        if self._own is not None:
            self._own.engine.close()

    def _run(
        self,
        sample_ids: Sequence[str],
        talk: Callable[[PreparedSample], Conversation[Result]],
        unusable: list[Quarantined],
    ) -> Iterator[Result]:
        dataset = self._cell.dataset
        pictures = prepare_samples(dataset, dataset.samples.named(sample_ids), unusable)
        yield from self._engine.run(talk(picture) for picture in pictures)

    def _rotations(self, picture: PreparedSample) -> list[PreparedSample]:
        return controlled_samples(self._cell.control, picture, self._spec.seed)

    def _ask(self, picture: PreparedSample) -> Conversation[SampleAnswers | Quarantined]:
        return quarantine_errors(picture, self._answers(picture))

    def _answers(self, picture: PreparedSample) -> Conversation[SampleAnswers]:
        answers, cost = [], Cost()
        for rotation in self._rotations(picture):
            asked = run_paradigm(
                self._cell.paradigm, self._chat, self._cell.dataset, rotation, self._teacher
            )
            some, its_cost = yield from metered(asked)
            answers.append(some)
            cost += its_cost
        return SampleAnswers(picture.sample.id, answers, cost)

    def _measured(self, answers: Answers) -> Answers:
        """The answers of samples with a letter in their reply, the distribution there measured.

        In a run of its own: it is no part of the paradigm, and so neither of its cost.
        """

        def measure(
            picture: PreparedSample,
        ) -> Conversation[tuple[str, Sequence[Sequence[LevelAnswer]]]]:
            sample_id, measured = picture.sample.id, []
            for rotation, some in zip(self._rotations(picture), answers[sample_id], strict=True):
                measured.append((yield from measure_letters(rotation, some)))
            return sample_id, measured

        parsed = [
            sample_id
            for sample_id, rotations in answers.items()
            if any(given.letter for some in rotations for given in some)
        ]
        gone: list[Quarantined] = []
        measured = dict(self._run(parsed, measure, gone))
        for sample in gone:
            logger.warning("%s: not measured: %s", sample.sample_id, sample.reason)
        return measured

    def _row(self, sample_id: str, rotation: int, given: LevelAnswer) -> Prediction:
        question, choice = given.question, given.choice
        assert question.truth is not None
        return Prediction(
            **self._cell.names,
            sample_id=sample_id,
            level=question.level,
            rank=question.rank,
            options=tuple(node.id for node in question.options),
            truth=question.truth.id,
            prediction=None if choice is None else question.options[choice].id,
            option_logprobs=given.option_logprobs,
            reply=given.reply,
            rotation=rotation,
        )
