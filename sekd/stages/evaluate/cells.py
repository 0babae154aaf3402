"""A cell of the evaluation: one model on one dataset, under one paradigm and one control or none.

Each cell is a stage of its own, so that finished cells stay finished when others are added.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from sekd.config import WITHOUT_QUIZ, Control, DatasetSpec, EvaluateSpec, Paradigm, RunConfig
from sekd.data.controls import CONTROLS, ControlCondition
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
from sekd.engines.base import Result
from sekd.engines.metering import Cost, metered
from sekd.errors import ConfigError, SampleError, ShardError
from sekd.models.chat import Chat
from sekd.models.open_naming import OpenAnswers
from sekd.models.wording import load_wording
from sekd.stages.answers import LevelAnswer, SampleAnswers, with_given
from sekd.stages.descent import DESCENT_VERSION
from sekd.stages.evaluate.candidates import Candidate, EngineCache
from sekd.stages.evaluate.controls import apply_control
from sekd.stages.evaluate.paradigms import (
    descend_to_score,
    measure_letters,
    name_to_score,
    reason_against,
    run_paradigm,
)
from sekd.stages.fingerprints import dataset_fields, dataset_settings, settings_without_quiz
from sekd.stages.naming import NAMING_VERSION
from sekd.stages.prepare import PreparedSample, prepare_samples, run_conversations

logger = logging.getLogger(__name__)

_NUM_ALONE = 3
"""Samples that are asked about alone: the first of them warms up the engine, the median counts."""

PREDICTIONS_VERSION = 3
"""Part of the fingerprint: raise it when the same input would give other rows."""


@dataclass(frozen=True)
class EvaluationCell:
    """One model, dataset, paradigm and control.

    Attributes:
        dataset: as the control changes it, see
            :meth:`~sekd.data.controls.ControlCondition.dataset`.
    """

    candidate: Candidate
    dataset: Dataset
    paradigm: Paradigm
    control: Control | None = None

    @property
    def condition(self) -> ControlCondition:
        """The control's condition; it changes nothing if there is no control."""
        return ControlCondition() if self.control is None else CONTROLS[self.control]

    @property
    def names(self) -> dict[str, str]:
        """The columns that name the cell in each of its rows."""
        return {
            "model": self.candidate.name,
            "dataset": self.dataset.name,
            "paradigm": self.paradigm,
            "control": self.control or NO_CONTROL,
        }

    @property
    def folder(self) -> str:
        """Name of the folder of its stage."""
        parts = [self.dataset.name, self.candidate.name, self.paradigm, self.control]
        return "-".join(part for part in parts if part)


def cells_of(
    config: RunConfig, candidates: Sequence[Candidate], datasets: Sequence[Dataset]
) -> list[EvaluationCell]:
    """List all cells that ask a model; those of one candidate follow each other.

    Raises:
        ConfigError: if a dataset has no quiz for a paradigm.
    """
    spec = config.evaluate
    for dataset in datasets:
        refuse_missing_quiz(spec, dataset.name, dataset.spec)
    controlled = {dataset.name: _under_controls(spec, dataset) for dataset in datasets}
    paradigms = {dataset.name: _paradigms_of(spec, dataset) for dataset in datasets}
    return [
        EvaluationCell(candidate, controlled_dataset, paradigm, control)
        for candidate in candidates
        for dataset in datasets
        for paradigm in paradigms[dataset.name]
        for control, controlled_dataset in controlled[dataset.name].items()
        if control is None or paradigm in CONTROLS[control].paradigms
    ]


def refuse_missing_quiz(spec: EvaluateSpec, name: str, dataset: DatasetSpec) -> None:
    """Refuse a paradigm that needs a quiz for a dataset without one.

    Args:
        name: of the dataset.

    Raises:
        ConfigError: naming the dataset, the paradigms and the way out.
    """
    paradigms = [each for each in spec.paradigms if each not in WITHOUT_QUIZ]
    if dataset.options == "children" and paradigms:
        raise ConfigError(
            f"evaluate.paradigms: data.{name}.options: children gives no quiz for "
            f"{', '.join(paradigms)}; evaluate {' or '.join(WITHOUT_QUIZ)} alone, or set "
            f"data.{name}.options: drawn for labelled images"
        )


def _paradigms_of(spec: EvaluateSpec, dataset: Dataset) -> list[Paradigm]:
    """List the paradigms that make sense on a dataset; the others are logged."""
    sensible = []
    for paradigm in spec.paradigms:
        reason = reason_against(paradigm, dataset)
        if reason:
            logger.info("%s is not evaluated as %s: %s", dataset.name, paradigm, reason)
        else:
            sensible.append(paradigm)
    return sensible


def _under_controls(spec: EvaluateSpec, dataset: Dataset) -> dict[Control | None, Dataset]:
    """Map ``None`` and each control that makes sense to the dataset that is asked about."""
    controlled: dict[Control | None, Dataset] = {None: dataset}
    limited = dataset.draw(spec.control_limit, spec.seed) if spec.control_limit else dataset
    for control in spec.controls:
        condition = CONTROLS[control]
        reason = condition.why_not(dataset)
        if reason:
            logger.info("%s is not evaluated under %s: %s", dataset.name, control, reason)
        elif condition.asks_model:
            controlled[control] = condition.dataset(limited)
    return controlled


def cell_fields(config: RunConfig, cell: EvaluationCell) -> dict[str, Any]:
    """Gather everything that a cell's rows depend on beside the samples; its hash is the
    fingerprint."""
    spec = config.evaluate
    evaluate: dict[str, Any] = {"engine": spec.engine, "engine_args": spec.engine_args}
    if cell.condition.is_seeded:
        evaluate["seed"] = spec.seed
    has_quiz = cell.paradigm not in WITHOUT_QUIZ
    as_settings = dataset_settings if has_quiz else settings_without_quiz
    settings: dict[str, Any] = {
        "cell": cell.names,
        "model": cell.candidate.spec.model_dump(mode="json"),
        "data": as_settings(cell.dataset.spec),
        "evaluate": evaluate,
    }
    if cell.paradigm == "open":
        settings["naming"] = NAMING_VERSION
        if config.descent.beam > 1:
            settings["num_paths"] = config.descent.beam
    if cell.paradigm == "descent":
        settings["descent"] = config.descent.model_dump(mode="json")
        settings["descending"] = DESCENT_VERSION
    if cell.paradigm in ("conditioned", "descent"):
        walk_settings = {"style", "answer", "permutations"}
        settings["elicit"] = config.elicit.model_dump(mode="json", include=walk_settings)
    return {
        "stage": "predictions",
        "version": PREDICTIONS_VERSION,
        "spec": settings,
        "engine": engine_version(spec.engine),
        **cell.candidate.fields,
        **dataset_fields(cell.dataset),
    }


class CellWorker:
    """Turns shards of labelled samples into the predictions of one cell.

    Args:
        engines: opens the candidate's engine and keeps it open after this worker. Without it the
            engine is closed with the worker.
    """

    def __init__(
        self, config: RunConfig, cell: EvaluationCell, engines: EngineCache | None = None
    ) -> None:
        self._spec, self._cell = config.evaluate, cell
        self._teacher, self._descent = config.elicit, config.descent
        self._engines = EngineCache() if engines is None else engines
        self._owns_engine = engines is None
        self._has_measured = False
        opened = self._engines.open(cell.candidate, config.evaluate)
        self._engine = opened.engine
        self._chat = Chat(
            opened.processor,
            subject=cell.dataset.spec.subject,
            wording=load_wording(cell.dataset.spec.wording),
            answer=config.elicit.answer,
            with_image=cell.condition.shows_image,
            template_args=cell.candidate.spec.chat_template_args,
        )
        self._chat.refuse_special_names(cell.dataset.taxonomy)
        is_open = cell.paradigm == "open"
        self._open_answers = OpenAnswers(self._chat, cell.dataset.taxonomy) if is_open else None

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Ask about every sample; see :class:`sekd.pipeline.work.Worker`.

        A few samples of this worker's first shard go before the others, one by one, for the
        latency.
        """
        quarantined: list[Quarantined] = []
        answers: dict[str, list[SampleAnswers]] = {}
        cost = Cost()

        def run(sample_ids: Sequence[str]) -> float:
            nonlocal cost
            started = time.monotonic()
            for outcome in self._run(sample_ids, self._ask):
                if isinstance(outcome, Quarantined):
                    quarantined.append(outcome)
                else:
                    variants, sample_cost = outcome
                    answers[variants[0].sample_id] = variants
                    cost += sample_cost
                advance(1)
            return time.monotonic() - started

        num_alone = 0
        if not self._has_measured and len(shard.sample_ids) > _NUM_ALONE:
            num_alone, self._has_measured = _NUM_ALONE, True
        alone, together = shard.sample_ids[:num_alone], shard.sample_ids[num_alone:]
        latencies = [run([sample_id]) for sample_id in alone]
        seconds = run(together) * len(shard.sample_ids) / len(together)
        latency = {"latency": median(latencies)} if latencies else {}
        if self._cell.paradigm == "joint":
            answers |= self._measure_replies(answers)
        rows = [
            self._prediction(variant, rotation, answer)
            for sample_id in shard.sample_ids
            for rotation, variant in enumerate(answers.get(sample_id, ()))
            for answer in variant.levels
        ]
        path = folder / "predictions.parquet"
        write_predictions(rows, path)
        if len(read_predictions([path])) != len(rows):
            raise ShardError(f"{path}: does not read back as it was written")
        return ShardResult(
            files={PREDICTIONS: path},
            num_done=len(answers),
            quarantined=quarantined,
            stats={"seconds": seconds, **latency, **cost.to_json()},
        )

    def close(self) -> None:
        """Free the engine, unless the cache that was given keeps it open."""
        if self._owns_engine:
            self._engines.close()

    def _run(
        self,
        sample_ids: Sequence[str],
        converse: Callable[[PreparedSample], Conversation[Result]],
    ) -> Iterator[Result | Quarantined]:
        dataset = self._cell.dataset
        if self._cell.paradigm in WITHOUT_QUIZ:
            dataset = dataset.without_quiz()
        samples = dataset.samples.named(sample_ids)
        prepared_samples = prepare_samples(dataset, samples, self._chat.used_pixels)
        return run_conversations(self._engine, prepared_samples, converse)

    def _variants(self, prepared: PreparedSample) -> list[PreparedSample]:
        return apply_control(self._cell.condition, prepared, self._spec.seed)

    def _ask(self, prepared: PreparedSample) -> Conversation[tuple[list[SampleAnswers], Cost]]:
        return metered(self._ask_variants(prepared))

    def _ask_variants(self, prepared: PreparedSample) -> Conversation[list[SampleAnswers]]:
        paradigm, dataset = self._cell.paradigm, self._cell.dataset
        answers = []
        for variant in self._variants(prepared):
            if paradigm in WITHOUT_QUIZ:
                answers.append((yield from self._find_path(variant)))
                continue
            questions = variant.questions or ()
            asked = [question for question in questions if not question.is_given]
            if not asked:
                raise SampleError("no level has two options to ask about")
            variant = replace(variant, questions=asked)
            conversation = run_paradigm(paradigm, self._chat, dataset, variant, self._teacher)
            answers.append(with_given((yield from conversation), questions))
        return answers

    def _find_path(self, prepared: PreparedSample) -> Conversation[SampleAnswers]:
        """Let the model find a path without a quiz."""
        if self._open_answers is not None:
            return name_to_score(self._open_answers, prepared, self._descent.beam)
        return descend_to_score(
            self._chat, self._cell.dataset, prepared, self._descent, self._teacher
        )

    def _measure_replies(
        self, answers: Mapping[str, Sequence[SampleAnswers]]
    ) -> dict[str, list[SampleAnswers]]:
        """Measure the distributions at the letters of free replies.

        This is a run of its own: it is no part of the paradigm and must not count in its cost.

        Returns:
            Sample id -> its answers, of the samples with a letter in a reply.
        """

        def measure(prepared: PreparedSample) -> Conversation[list[SampleAnswers]]:
            measured = []
            variants = self._variants(prepared)
            for variant, given in zip(variants, answers[prepared.sample.id], strict=True):
                measured.append((yield from measure_letters(variant, given)))
            return measured

        sample_ids = [
            sample_id
            for sample_id, variants in answers.items()
            if any(answer.letter for variant in variants for answer in variant.levels)
        ]
        measured: dict[str, list[SampleAnswers]] = {}
        for outcome in self._run(sample_ids, measure):
            if isinstance(outcome, Quarantined):
                logger.warning("%s: not measured: %s", outcome.sample_id, outcome.reason)
            else:
                measured[outcome[0].sample_id] = outcome
        return measured

    def _prediction(self, sample: SampleAnswers, rotation: int, answer: LevelAnswer) -> Prediction:
        question, logprobs = answer.question, answer.mean_logprobs
        assert question.truth is not None
        return Prediction(
            **self._cell.names,
            sample_id=sample.sample_id,
            level=question.level,
            rank=question.rank,
            options=tuple(node.id for node in question.options),
            truth=question.truth.id,
            prediction=None if answer.node is None else answer.node.id,
            option_logprobs=None if logprobs is None else logprobs.tolist(),
            reply=answer.reply,
            rotation=rotation,
            path_logprob=answer.path_logprob,
            paths=[{"node": node.id, "probability": share} for node, share in sample.paths]
            if sample.paths and answer is sample.levels[0]
            else None,
        )
