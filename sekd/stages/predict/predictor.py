"""A loaded model that predicts the path of one image after another."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Self

from sekd.data.image_refs import ImageRef
from sekd.data.images import Reading
from sekd.data.path_predictions import PathPrediction, PredictedLevel, RankedPath
from sekd.data.samples import Dataset, Sample, Samples
from sekd.data.shards import Quarantined
from sekd.data.taxonomy import Node, Taxonomy
from sekd.engines import Conversation, Engine, open_engine_of
from sekd.errors import SampleError
from sekd.models.chat import load_chat
from sekd.models.open_naming import OpenAnswers
from sekd.stages.answers import PathStep
from sekd.stages.descent import DescentPath, descend
from sekd.stages.naming import follow_paths
from sekd.stages.path_rules import PathRules
from sekd.stages.predict.setup import PredictorSpec
from sekd.stages.prepare import PreparedSample, prepare_samples

logger = logging.getLogger(__name__)


class Predictor:
    """A model with its chat, loaded once; a context manager that frees it at the end.

    Args:
        engine: answers in place of the engine that the settings name.

    Raises:
        ConfigError: if the model cannot be used, or a name of the taxonomy holds a special token.
    """

    def __init__(self, spec: PredictorSpec, engine: Engine | None = None) -> None:
        self.spec = spec
        self._chat = load_chat(
            spec.model,
            subject=spec.dataset.subject,
            wording=spec.dataset.wording,
            answer=spec.teacher.answer,
        )
        self._chat.refuse_special_names(spec.taxonomy)
        no_samples = Samples.gather([], spec.taxonomy, Path("/"))
        self._dataset = Dataset("images", spec.dataset, spec.taxonomy, no_samples)
        self._answers = None if spec.is_stepwise else OpenAnswers(self._chat, spec.taxonomy)
        logger.info("loading %s", spec.model.path)
        self._engine = engine or open_engine_of(
            spec.evaluate, spec.model, self._chat, adapter=spec.adapter
        )

    @property
    def reading(self) -> Reading:
        """How images are read for the model."""
        return Reading(self.spec.dataset.pixel_limit, self._chat.used_pixels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(self, samples: Iterable[Sample]) -> Iterator[PathPrediction]:
        """Predict the path of each sample, in their order; of a broken image, give the reason."""
        ref_of: dict[str, ImageRef] = {}

        def remembered() -> Iterator[Sample]:
            for sample in samples:
                ref_of[sample.id] = sample.image
                yield sample

        prepared = prepare_samples(self._dataset, remembered(), self._chat.used_pixels)
        for prediction in self.predict_prepared(prepared):
            ref = ref_of.pop(prediction.image)
            if prediction.error is None:
                yield prediction
            else:  # it begins with the place of the image, and stands beside its name
                reason = prediction.error.removeprefix(f"{ref}: ").removeprefix(f"{ref.path}: ")
                yield replace(prediction, error=reason)

    def predict_prepared(
        self, samples: Iterable[PreparedSample | Quarantined]
    ) -> Iterator[PathPrediction]:
        """Predict the path of each image that was read already, in their order."""
        conversations = (self._numbered(*each) for each in enumerate(samples))
        waiting: dict[int, PathPrediction] = {}
        next_number = 0
        for number, prediction in self._engine.run(conversations):
            waiting[number] = prediction
            while next_number in waiting:
                yield waiting.pop(next_number)
                next_number += 1

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def _numbered(
        self, number: int, sample: PreparedSample | Quarantined
    ) -> Conversation[tuple[int, PathPrediction]]:
        """Hold the conversation about a sample; whatever is wrong with it becomes its result."""
        if isinstance(sample, Quarantined):
            return number, PathPrediction(image=sample.sample_id, error=sample.reason)
        try:
            return number, (yield from self._converse(sample))
        except SampleError as error:
            return number, PathPrediction(image=sample.sample.id, error=str(error))

    def _converse(self, prepared: PreparedSample) -> Conversation[PathPrediction]:
        spec = self.spec
        if self._answers is None:
            descent = yield from descend(
                self._chat, self._dataset, prepared, spec.descent, spec.teacher, spec.rules
            )
            paths = [_of_descent(spec.taxonomy, path) for path in descent.paths]
        else:
            # As many as in an evaluation by open naming.
            found = yield from follow_paths(self._answers, prepared, spec.descent.beam, spec.rules)
            paths = [_of_steps(spec.taxonomy, steps, spec.rules) for steps in found]
            paths.sort(key=lambda path: -path.ranked.probability)
        return PathPrediction(
            image=prepared.sample.id,
            levels=paths[0].levels,
            outside=None if spec.rules.restriction is None else paths[0].outside,
            paths=tuple(path.ranked for path in paths[: spec.num_paths]),
            is_calibrated=bool(spec.rules.temperatures),
        )


@dataclass(frozen=True)
class _Path:
    """A path with the probabilities that count, and what a restriction took away on it."""

    levels: tuple[PredictedLevel, ...]
    ranked: RankedPath
    outside: float

    @classmethod
    def of(cls, taxonomy: Taxonomy, choices: Iterable[tuple[Node, float, float]]) -> Self:
        """Join the choices at the nodes of a path.

        Args:
            choices: node, log-probability among the children, and the probability of the children
                that were left out; a node that comes twice is the end of its path.
        """
        levels: list[PredictedLevel] = []
        logprob, inside, last = 0.0, 1.0, taxonomy.root
        for node, share, outside in choices:
            logprob += share
            inside *= 1 - outside
            if node is not last:
                common_name = taxonomy.common_name(node)
                levels.append(
                    PredictedLevel(
                        node.rank, node.id, node.name, common_name, exp(share), exp(logprob)
                    )
                )
            last = node
        names = tuple(level.name for level in levels)
        return cls(tuple(levels), RankedPath(last.id, names, exp(logprob)), 1 - inside)


def _of_descent(taxonomy: Taxonomy, path: DescentPath) -> _Path:
    return _Path.of(
        taxonomy,
        ((level.node, _log(level.probability), level.outside) for level in path.levels),
    )


def _of_steps(taxonomy: Taxonomy, steps: Iterable[PathStep], rules: PathRules) -> _Path:
    def choices() -> Iterator[tuple[Node, float, float]]:
        parent = taxonomy.root
        for step in steps:
            logprobs, outside = rules.adjust(parent, step.children, step.logprobs)
            yield step.node, float(logprobs[step.children.index(step.node)]), outside
            parent = step.node

    return _Path.of(taxonomy, choices())


def _log(probability: float) -> float:
    return log(probability) if probability else float("-inf")
