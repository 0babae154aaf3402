"""The models that are evaluated, and the engine of the one that answers now."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sekd.config import BASE, STUDENT, EvaluatedModel, EvaluateSpec, ModelSpec, RunConfig
from sekd.engines import Engine, check_serves, open_engine_of
from sekd.models.adapters import adapted_spec, adapter_identity, check_adapter
from sekd.models.chat import load_chat
from sekd.stages.fingerprints import model_fields

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A model under the name that it has in the tables.

    Attributes:
        spec: the model, with the processor arguments that the adapter was trained with.
        adapter: directory of the PEFT adapter that the model answers with.
    """

    name: str
    spec: ModelSpec
    adapter: Path | None = None

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Fields of the model and its adapter in a fingerprint; the files are hashed once."""
        adapter = adapter_identity(self.adapter, self.name) if self.adapter else None
        return {"adapter": adapter, **model_fields(self.spec)}


def candidates_of(config: RunConfig, student: Path | None) -> list[Candidate]:
    """List the base, the student and the models of ``evaluate.models``.

    Args:
        student: the finished adapter; ``None`` leaves the student out.

    Raises:
        ConfigError: if an adapter does not exist, or the engine does not serve it.
    """
    candidates = [Candidate(BASE, config.model)]
    if student is not None:
        check_adapter(student, STUDENT)
        spec = adapted_spec(config.model, student)
        if spec != config.model:
            logger.info("the student sees images as it was trained: %s", spec.processor_args)
        candidates.append(Candidate(STUDENT, spec, student))
    for name, model in config.evaluate.models.items():
        candidates.append(_other_candidate(name, model, config.model))
    for candidate in candidates:
        check_serves(config.evaluate.engine, candidate.spec, candidate.adapter)
    return candidates


def _other_candidate(name: str, model: EvaluatedModel, base: ModelSpec) -> Candidate:
    """Return a model of ``evaluate.models``, with the processor arguments that it is used with."""
    spec, adapter = model.spec(base), model.adapter
    if adapter is None:
        return Candidate(name, spec)
    check_adapter(adapter, f"evaluate.models.{name}.adapter")
    trained = adapted_spec(spec, adapter).processor_args
    used = trained | model.processor_args
    if used != trained:
        logger.warning(
            "evaluate.models.%s.processor_args: the adapter was trained with %s; it is evaluated "
            "with %s",
            name,
            trained,
            used,
        )
    return Candidate(name, spec.model_copy(update={"processor_args": used}), adapter)


@dataclass(frozen=True)
class OpenCandidate:
    """A candidate whose model is loaded."""

    processor: Any
    engine: Engine


def open_candidate(candidate: Candidate, spec: EvaluateSpec) -> OpenCandidate:
    """Load the model into the engine of the config."""
    # The engine needs what the template puts before the image, and no question comes there.
    chat = load_chat(candidate.spec, subject="organism")
    engine = open_engine_of(spec, candidate.spec, chat, adapter=candidate.adapter)
    return OpenCandidate(chat.processor, engine)


class EngineCache:
    """Keeps the engine of the last candidate open, for the next worker of this process."""

    def __init__(self) -> None:
        self._last: tuple[Candidate, OpenCandidate] | None = None

    def open(self, candidate: Candidate, spec: EvaluateSpec) -> OpenCandidate:
        """Return the open candidate; another one that is still open is closed first."""
        if self._last is None or self._last[0] is not candidate:
            self.close()
            self._last = candidate, open_candidate(candidate, spec)
        return self._last[1]

    def close(self) -> None:
        """Free the engine, if one is open."""
        if self._last is not None:
            self._last[1].engine.close()
            self._last = None
