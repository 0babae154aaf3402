"""The first stage of elicitation: the frozen teacher's answers and dialogues, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.data.signals import TeacherAnswer, TeacherSample, TeacherTranscript
from sekd.engines import Conversation, Engine, engine_version
from sekd.models.adapters import adapted_spec, adapter_identity
from sekd.models.chat import Transcript
from sekd.stages.answers import LevelAnswer, SampleAnswers
from sekd.stages.elicit.teacher import Teacher
from sekd.stages.fingerprints import dataset_fields, dataset_settings, model_fields
from sekd.stages.prepare import PreparedSample
from sekd.stages.walk import reply_plainly, walk

ANSWERS_VERSION = 2
"""Part of the fingerprint: raise it when the same input would give other rows."""


def answers_spec(config: RunConfig) -> dict[str, Any]:
    """Dump the settings that the answers depend on, as JSON."""
    dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
    settings = config.elicit.model_dump(
        mode="json",
        include={
            "engine",
            "engine_args",
            "style",
            "answer",
            "permutations",
            "plain",
        },
    )
    if config.elicit.adapter:  # its content counts, not its path
        settings["adapter"] = adapter_identity(config.elicit.adapter, "elicit.adapter")
    return {
        "model": config.model.model_dump(mode="json"),
        "data": dataset_settings(dataset),
        "elicit": settings,
    }


def answers_fields(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """Gather everything but the samples that the answers depend on: the fingerprint's fields."""
    return {
        "stage": "answers",
        "version": ANSWERS_VERSION,
        "spec": answers_spec(config),
        "engine": engine_version(config.elicit.engine),
        **model_fields(adapted_spec(config.model, config.elicit.adapter)),
        **dataset_fields(dataset),
    }


class AnswersWorker:
    """Turns shards of samples into transcripts and answers.

    Args:
        engine: answers in place of the engine that the config names.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, engine: Engine | None = None) -> None:
        self._spec, self._dataset = config.elicit, dataset
        self._knows_truth = not dataset.has_model_labels
        self._teacher = Teacher(config, dataset, engine, config.elicit.plain.prompts)
        self._chat = self._teacher.chat

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Walk every sample of the shard; see :class:`sekd.pipeline.work.Worker`."""
        started = time.monotonic()
        in_order, quarantined = self._teacher.converse(shard, self._teach, advance)
        files = signals.write_samples(in_order, folder)
        reopened = signals.TeacherShard(files[signals.TRANSCRIPTS], files[signals.ANSWERS])
        signals.check_samples(reopened, [sample.sample_id for sample in in_order], folder)
        answers = [answer for sample in in_order for answer in sample.answers]
        return ShardResult(
            files=files,
            num_done=len(in_order),
            quarantined=quarantined,
            stats={
                "seconds": time.monotonic() - started,
                "num_answers": len(answers),
                "num_prompt_tokens": sum(answer.num_prompt_tokens for answer in answers),
                "num_cached_tokens": sum(answer.num_cached_tokens for answer in answers),
            },
        )

    def close(self) -> None:
        """Free the engine."""
        self._teacher.close()

    def _teach(self, prepared: PreparedSample) -> Conversation[TeacherSample]:
        answers = yield from walk(self._chat, self._dataset, prepared, self._spec)
        plain = yield from reply_plainly(self._chat, prepared, self._spec.plain)
        return self._teacher_sample(prepared, answers, plain)

    def _teacher_sample(
        self, prepared: PreparedSample, answers: SampleAnswers, plain: Sequence[Transcript]
    ) -> TeacherSample:
        """Make the rows of a sample; plain replies, which hold no answer, come last."""
        places = [
            (number, position)
            for number, transcript in enumerate(answers.transcripts)
            for position in transcript.positions
        ]
        return TeacherSample(
            sample_id=prepared.sample.id,
            image=str(prepared.sample.image),
            image_sha256=prepared.image_key,
            transcripts=tuple(
                TeacherTranscript(transcript.token_ids, transcript.is_target)
                for transcript in (*answers.transcripts, *plain)
            ),
            answers=tuple(
                self._teacher_answer(prepared.sample.id, answer, transcript, position)
                for answer, (transcript, position) in zip(answers.levels, places, strict=True)
            ),
        )

    def _teacher_answer(
        self, sample_id: str, answer: LevelAnswer, transcript: int, position: int
    ) -> TeacherAnswer:
        """Make the row of an answer, whose letter is at ``position`` of that transcript."""
        question = answer.question
        assert answer.node is not None  # a walk asks for letters, so it knows all of these
        assert answer.option_logprobs is not None
        assert answer.mean_logprobs is not None
        return TeacherAnswer(
            sample_id=sample_id,
            level=question.level,
            rank=question.rank,
            options=tuple(node.id for node in question.options),
            answer=answer.node.id,
            transcript=transcript,
            position=position,
            letter_ids=self._chat.letter_ids[: len(question.options)],
            option_logprobs=answer.option_logprobs,
            mean_logprobs=answer.mean_logprobs,
            num_prompt_tokens=answer.num_prompt_tokens,
            num_cached_tokens=answer.num_cached_tokens,
            # Questions drawn around a label that a model gave have no known truth.
            truth=question.truth.id if question.truth and self._knows_truth else None,
        )
