"""Elicitation, first half: the frozen teacher's dialogues, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.data.signals import TeacherAnswer, TeacherSample, TeacherTranscript
from sekd.engines import Conversation, Engine, engine_version, open_engine
from sekd.errors import ShardError
from sekd.models import loading
from sekd.models.chat import Chat
from sekd.stages.fingerprints import dataset_fields, model_fields
from sekd.stages.walk import (
    Dialogue,
    PreparedSample,
    prepare_samples,
    quarantine_errors,
    reply_plainly,
    walk,
)

ANSWERS_VERSION = 2
"""Part of the fingerprint: raise it when the same input would give other rows."""


def answers_spec(config: RunConfig) -> dict[str, Any]:
    """The settings that the answers depend on, as JSON."""
    dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
    own = config.elicit.model_dump(
        mode="json",
        include={
            "engine",
            "engine_args",
            "style",
            "answer",
            "permutations",
            "plain",
            "max_quarantined",
        },
    )
    if config.elicit.adapter:  # its content counts, not its place
        own["adapter"] = loading.adapter_identity(config.elicit.adapter, "elicit.adapter")
    return {
        "model": config.model.model_dump(mode="json"),
        "data": dataset.model_dump(mode="json"),
        "elicit": own,
    }


def answers_fields(
    config: RunConfig, dataset: Dataset, images: Iterable[str | None]
) -> dict[str, Any]:
    """Everything that the answers depend on: hashed, it is their fingerprint.

    Args:
        images: SHA-256 of each sample's image.
    """
    return {
        "stage": "answers",
        "version": ANSWERS_VERSION,
        "spec": answers_spec(config),
        "engine": engine_version(config.elicit.engine),
        **model_fields(config.model),
        **dataset_fields(dataset, images),
    }


class AnswersWorker:
    """Turns shards of samples into transcripts and answers.

    Args:
        engine: asked in place of the config's.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, engine: Engine | None = None) -> None:
        spec = config.elicit
        self._spec = spec
        self._dataset = dataset
        processor = loading.load_processor(config.model)
        self._chat = Chat(processor, subject=dataset.spec.subject, answer=spec.answer)
        self._engine = engine or open_engine(
            spec.engine,
            config.model,
            self._chat,
            adapter=spec.adapter,
            batch_size=spec.runtime.batch_size,
            engine_args=spec.engine_args | spec.runtime.engine_args,
        )

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Walk every image of the shard; see :class:`sekd.pipeline.runner.Worker`."""
        started = time.monotonic()
        quarantined: list[Quarantined] = []
        done: dict[str, TeacherSample] = {}
        samples = self._dataset.samples.named(shard.sample_ids)
        pictures = prepare_samples(self._dataset, samples, quarantined)
        walks = (quarantine_errors(picture, self._teach(picture)) for picture in pictures)
        for outcome in self._engine.run(walks):
            if isinstance(outcome, Quarantined):
                quarantined.append(outcome)
            else:
                done[outcome.picture.sample.id] = self._record(outcome)
            advance(1)
        _limit_quarantine(quarantined, len(samples), self._spec.max_quarantined)
        in_order = [done[sample.id] for sample in samples if sample.id in done]
        files = signals.write_samples(in_order, folder)
        reopened = signals.TeacherShard(files[signals.TRANSCRIPTS], files[signals.ANSWERS])
        signals.check_samples(reopened, [sample.sample_id for sample in in_order], folder)
        answers = [answer for sample in in_order for answer in sample.answers]
        return ShardResult(
            files=files,
            num_done=len(done),
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
        self._engine.close()

    def _teach(self, picture: PreparedSample) -> Conversation[Dialogue]:
        dialogue = yield from walk(self._chat, self._dataset, picture, self._spec)
        plain = yield from reply_plainly(self._chat, picture, self._spec.plain)
        return replace(dialogue, transcripts=(*dialogue.transcripts, *plain))

    def _record(self, dialogue: Dialogue) -> TeacherSample:
        sample = dialogue.picture.sample
        places = [
            (number, position)
            for number, transcript in enumerate(dialogue.transcripts)
            for position in transcript.positions
        ]
        answers = tuple(
            TeacherAnswer(
                sample_id=sample.id,
                level=step.question.level,
                rank=step.question.rank,
                options=tuple(node.id for node in step.question.options),
                answer=step.node.id,
                transcript=transcript,
                position=position,
                letter_ids=self._chat.letter_ids[: len(step.question.options)],
                option_logprobs=step.option_logprobs,
                mean_logprobs=step.mean_logprobs,
                num_prompt_tokens=step.num_prompt_tokens,
                num_cached_tokens=step.num_cached_tokens,
                truth=step.question.truth.id if step.question.truth else None,
            )
            for step, (transcript, position) in zip(dialogue.steps, places, strict=True)
        )
        return TeacherSample(
            sample_id=sample.id,
            image=str(sample.image),
            image_sha256=dialogue.picture.image_key,
            transcripts=tuple(
                TeacherTranscript(transcript.token_ids, transcript.is_target)
                for transcript in dialogue.transcripts
            ),
            answers=answers,
        )


def _limit_quarantine(quarantined: list[Quarantined], num_samples: int, limit: float) -> None:
    if len(quarantined) > limit * num_samples:
        first = quarantined[0]
        raise ShardError(
            f"{len(quarantined)} of {num_samples} samples cannot be used, more than "
            f"elicit.max_quarantined {limit:g} allows; the first is {first.sample_id}: "
            f"{first.reason}"
        )
