"""The models that are evaluated, and the engine of the one whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sekd.config import BASE, STUDENT, EvaluateSpec, ModelSpec, RunConfig
from sekd.engines import Engine, open_engine
from sekd.io.hashing import hash_directory
from sekd.models import loading
from sekd.models.chat import Chat
from sekd.stages.elicit.answers import model_fields


@dataclass(frozen=True)
class Candidate:
    """A model under the name that it has in the tables.

    Attributes:
        adapter: directory of a PEFT adapter that it answers with.
    """

    name: str
    spec: ModelSpec
    adapter: Path | None = None

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What of it goes into a fingerprint; its files are hashed once."""
        adapter = hash_directory(self.adapter) if self.adapter else None
        return {"adapter": adapter, **model_fields(self.spec)}


def candidates_of(config: RunConfig, student: Path | None) -> list[Candidate]:
    """Base, student and the others of ``evaluate.models``.

    Args:
        student: the finished adapter, if there is one.

    Raises:
        ConfigError: if an adapter is not there.
    """
    found = [Candidate(BASE, config.model)]
    if student is not None:
        found.append(Candidate(STUDENT, config.model, student))
    for name, other in config.evaluate.models.items():
        if other.adapter:
            loading.check_adapter(other.adapter, f"evaluate.models.{name}.adapter")
        found.append(Candidate(name, other.spec(config.model), other.adapter))
    return found


@dataclass(frozen=True)
class OpenCandidate:
    """A contender ready to answer."""

    processor: Any
    engine: Engine


def open_candidate(contender: Candidate, spec: EvaluateSpec) -> OpenCandidate:
    """Load the model into the engine of the config."""
    processor = loading.load_processor(contender.spec)
    engine = open_engine(
        spec.engine,
        contender.spec,
        # What a template puts before the image does not depend on the subject.
        Chat(processor, subject="organism"),
        adapter=contender.adapter,
        batch_size=spec.runtime.batch_size,
        engine_args=spec.engine_args | spec.runtime.engine_args,
    )
    return OpenCandidate(processor, engine)


class EngineCache:
    """Keeps the last contender open, for workers of this process that come one after another."""

    def __init__(self) -> None:
        self._last: tuple[Candidate, OpenCandidate] | None = None

    def open(self, contender: Candidate, spec: EvaluateSpec) -> OpenCandidate:
        """The contender, opened now if it is not the last one."""
        if self._last is None or self._last[0] is not contender:
            self.close()
            self._last = contender, open_candidate(contender, spec)
        return self._last[1]

    def close(self) -> None:
        """Free what is open."""
        if self._last is not None:
            self._last[1].engine.close()
            self._last = None
