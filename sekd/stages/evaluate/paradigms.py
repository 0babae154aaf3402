"""The three ways to ask, on labelled images: joint, independent, conditioned.

============  =============  ================================================
paradigm      calls / image  what a call sees
============  =============  ================================================
joint         1              all levels' questions; one free generation
independent   L              one level's question, nothing else
conditioned   L              one level's question and the answers already given
============  =============  ================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sekd.config import Paradigm, RunConfig
from sekd.data.hashing import hash_directory
from sekd.data.predictions import PREDICTIONS, Prediction, read_predictions, write_predictions
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.errors import ConfigError, ShardError
from sekd.stages import models
from sekd.stages.chat import Chat
from sekd.stages.dialogue import Picture, guarded, open_pictures, walk
from sekd.stages.elicit.answers import dataset_fields, model_fields
from sekd.stages.engines import (
    Ask,
    Conversation,
    Write,
    ask,
    engine_version,
    open_engine,
    write,
)
from sekd.stages.prompts import parse_joint_reply

PREDICTIONS_VERSION = 2
"""Part of the fingerprint: raise it when the same input would give other rows."""


def predictions_fields(
    config: RunConfig, dataset: Dataset, images: Iterable[str | None], adapter: Path | None
) -> dict[str, Any]:
    """Everything that the predictions depend on: hashed, it is their fingerprint."""
    own = {"engine", "engine_args", "paradigms", "limit"}
    return {
        "stage": "predictions",
        "version": PREDICTIONS_VERSION,
        "spec": {
            "model": config.model.model_dump(mode="json"),
            "data": dataset.spec.model_dump(mode="json"),
            "evaluate": config.evaluate.model_dump(mode="json", include=own),
            "elicit": config.elicit.model_dump(
                mode="json", include={"style", "answer", "permutations"}
            ),
        },
        "adapter": hash_directory(adapter) if adapter else None,
        "engine": engine_version(config.evaluate.engine),
        **model_fields(config.model),
        **dataset_fields(dataset, images),
    }


class PredictionsWorker:
    """Turns shards of labelled samples into predictions of one model under all paradigms.

    Args:
        model_name: ``base`` or ``student``, as it stands in the rows.
        adapter: of the student.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, model_name: str, adapter: Path | None
    ) -> None:
        if dataset.spec.distractors == "walk":
            raise ConfigError(
                f"data.{dataset.name}.distractors: walk has no fixed questions to score; "
                "take random or siblings"
            )
        spec = config.evaluate
        self._spec, self._teacher = spec, config.elicit
        self._dataset = dataset
        self._model_name = model_name
        self._chat = Chat(
            models.load_processor(config.model),
            subject=dataset.spec.subject,
            answer=config.elicit.answer,
        )
        self._engine = open_engine(
            spec.engine,
            config.model,
            self._chat,
            adapter=adapter,
            batch_size=spec.runtime.batch_size,
            engine_args=spec.engine_args | spec.runtime.engine_args,
        )

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Ask every paradigm of every sample; see :class:`sekd.pipeline.runner.Worker`."""
        conversation = {
            "joint": self._joint,
            "independent": self._independent,
            "conditioned": self._conditioned,
        }
        rows: dict[str, list[Prediction]] = {sample_id: [] for sample_id in shard.sample_ids}
        failed: dict[str, Quarantined] = {}
        seconds = {}
        samples = self._dataset.samples.named(shard.sample_ids)
        for paradigm in self._spec.paradigms:
            started = time.monotonic()
            unusable: list[Quarantined] = []
            pictures = open_pictures(self._dataset, samples, unusable)
            talks = (guarded(each, conversation[paradigm](each)) for each in pictures)
            for outcome in self._engine.run(talks):
                if isinstance(outcome, Quarantined):
                    unusable.append(outcome)
                else:
                    rows[outcome[0].sample_id] += outcome
            failed |= {each.sample_id: each for each in unusable}
            seconds[paradigm] = time.monotonic() - started
        advance(len(samples))
        kept = [row for sample_id in rows if sample_id not in failed for row in rows[sample_id]]
        path = folder / "predictions.parquet"
        write_predictions(kept, path)
        if len(read_predictions([path])) != len(kept):
            raise ShardError(f"{path}: does not read back as it was written")
        return ShardResult(
            files={PREDICTIONS: path},
            num_done=len(samples) - len(failed),
            quarantined=list(failed.values()),
            figures={"seconds": seconds},
        )

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _joint(self, picture: Picture) -> Conversation[list[Prediction]]:
        questions = picture.questions or ()
        prompt = picture.prompt(self._chat.joint_prompt(questions, self._dataset.taxonomy.root))
        room = self._chat.max_joint_tokens(questions)
        reply = yield from write(Write(prompt, room, self._chat.end_ids[0]))
        text = self._chat.decode(reply.token_ids)
        choices = parse_joint_reply(text, questions)
        return [
            self._row("joint", picture, question, choice, reply=text)
            for question, choice in zip(questions, choices, strict=True)
        ]

    def _independent(self, picture: Picture) -> Conversation[list[Prediction]]:
        turns = [self._chat.first_turn(question, []) for question in picture.questions or ()]
        answers = yield from ask(
            [
                Ask(
                    picture.prompt(turn.token_ids),
                    self._chat.letter_ids[: len(turn.question.options)],
                )
                for turn in turns
            ]
        )
        return [
            self._row(
                "independent",
                picture,
                turn.question,
                answer.choice,
                logprobs=answer.option_logprobs.tolist(),
            )
            for turn, answer in zip(turns, answers, strict=True)
        ]

    def _conditioned(self, picture: Picture) -> Conversation[list[Prediction]]:
        dialogue = yield from walk(self._chat, self._dataset, picture, self._teacher)
        return [
            self._row(
                "conditioned",
                picture,
                step.question,
                step.choice,
                logprobs=step.mean_logprobs.tolist(),
            )
            for step in dialogue.steps
        ]

    def _row(
        self,
        paradigm: Paradigm,
        picture: Picture,
        question: Question,
        choice: int | None,
        *,
        logprobs: Sequence[float] | None = None,
        reply: str | None = None,
    ) -> Prediction:
        assert question.truth is not None
        return Prediction(
            model=self._model_name,
            dataset=self._dataset.name,
            paradigm=paradigm,
            sample_id=picture.sample.id,
            level=question.level,
            rank=question.rank,
            options=tuple(node.id for node in question.options),
            truth=question.truth.id,
            prediction=None if choice is None else question.options[choice].id,
            option_logprobs=logprobs,
            reply=reply,
        )
