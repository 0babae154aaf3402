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
from dataclasses import dataclass
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
from sekd.stages.dialogue import Picture, in_waves, open_pictures, walk
from sekd.stages.elicit.answers import dataset_fields, model_fields
from sekd.stages.engines import engine_version, open_engine
from sekd.stages.prompts import parse_joint_reply

PREDICTIONS_VERSION = 1
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
        },
        "adapter": hash_directory(adapter) if adapter else None,
        "engine": engine_version(config.evaluate.engine),
        **model_fields(config.model),
        **dataset_fields(dataset, images),
    }


@dataclass(frozen=True)
class _Asked:
    """A picture whose questions are known, which is what evaluation needs."""

    picture: Picture
    questions: Sequence[Question]


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
        self._spec = spec
        self._dataset = dataset
        self._model_name = model_name
        self._chat = Chat(models.load_processor(config.model), subject=dataset.spec.subject)
        self._engine = open_engine(
            spec.engine,
            config.model,
            self._chat,
            adapter=adapter,
            top_k=1,
            batch_size=spec.runtime.batch_size,
            engine_args=spec.engine_args | spec.runtime.engine_args,
        )

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Ask every paradigm of every sample; see :class:`sekd.pipeline.runner.Worker`."""
        ask = {
            "joint": self._joint,
            "independent": self._independent,
            "conditioned": self._conditioned,
        }
        rows: list[Prediction] = []
        quarantined: list[Quarantined] = []
        seconds = dict.fromkeys(self._spec.paradigms, 0.0)
        samples = self._dataset.samples.named(shard.sample_ids)
        for wave in in_waves(samples, self._spec.runtime.batch_size):
            pictures, unreadable = open_pictures(self._dataset, wave)
            quarantined += unreadable
            asked = [_Asked(picture, picture.questions or ()) for picture in pictures]
            for paradigm in self._spec.paradigms:
                started = time.monotonic()
                rows += ask[paradigm](asked) if asked else []
                seconds[paradigm] += time.monotonic() - started
            advance(len(wave))
        path = folder / "predictions.parquet"
        write_predictions(rows, path)
        if len(read_predictions([path])) != len(rows):
            raise ShardError(f"{path}: does not read back as it was written")
        return ShardResult(
            files={PREDICTIONS: path},
            num_done=len(samples) - len(quarantined),
            quarantined=quarantined,
            figures={"seconds": seconds},
        )

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _joint(self, asked: Sequence[_Asked]) -> list[Prediction]:
        root = self._dataset.taxonomy.root
        replies = self._engine.generate(
            [each.picture.prompt(self._chat.joint_prompt(each.questions, root)) for each in asked],
            max_new_tokens=max(self._chat.max_joint_tokens(each.questions) for each in asked),
            stop_id=self._chat.end_ids[0],
        )
        rows = []
        for each, reply in zip(asked, replies, strict=True):
            text = self._chat.decode(reply.token_ids)
            choices = parse_joint_reply(text, each.questions)
            for question, choice in zip(each.questions, choices, strict=True):
                rows.append(self._row("joint", each.picture, question, choice, reply=text))
        return rows

    def _independent(self, asked: Sequence[_Asked]) -> list[Prediction]:
        rows = []
        for level in range(max(len(each.questions) for each in asked)):
            having = [each for each in asked if level < len(each.questions)]
            turns = [self._chat.first_turn(each.questions[level], []) for each in having]
            answers = self._engine.answer(
                [
                    each.picture.prompt(turn.token_ids)
                    for each, turn in zip(having, turns, strict=True)
                ],
                [self._chat.letter_ids[: len(turn.question.options)] for turn in turns],
                top_k=1,
            )
            for each, turn, answer in zip(having, turns, answers, strict=True):
                logprobs = answer.option_logprobs.tolist()
                question, choice = turn.question, answer.choice
                rows.append(
                    self._row("independent", each.picture, question, choice, logprobs=logprobs)
                )
        return rows

    def _conditioned(self, asked: Sequence[_Asked]) -> list[Prediction]:
        pictures = [each.picture for each in asked]
        dialogues, failed = walk(self._engine, self._chat, self._dataset, pictures, top_k=1)
        if failed:
            raise ShardError(f"{failed[0].sample_id}: {failed[0].reason}")
        return [
            self._row(
                "conditioned",
                dialogue.picture,
                question,
                answer.choice,
                logprobs=answer.option_logprobs.tolist(),
            )
            for dialogue in dialogues
            for question, answer in zip(dialogue.questions, dialogue.answers, strict=True)
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
