"""Check that a checkpoint holds the weights of its model, and that no weight is left over.

transformers fills missing weights with random numbers and drops those that it does not know. It
tells so in a report only, and such a model answers nonsense.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sekd.errors import ConfigError

_NUM_NAMED = 3
"""The number of weights that a message names."""

WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx"}
"""Suffixes of the files that hold weights."""


def check_loaded(info: Mapping[str, Any], source: Path) -> None:
    """Check the loading info of ``from_pretrained``.

    Weights that transformers can do without are not in it: tied ones, and those that the model's
    class says to ignore (``_keys_to_ignore_on_load_missing`` and ``..._unexpected``).

    Args:
        source: the directory that was loaded.

    Raises:
        ConfigError: naming the first missing, unexpected and mismatched weights, with their
            numbers.
    """
    mismatched = [
        f"{name} ({_shape(found)} instead of {_shape(expected)})"
        for name, found, expected in info["mismatched_keys"]
    ]
    check_keys(source, info["missing_keys"], info["unexpected_keys"], mismatched)


def check_keys(
    source: Path, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str] = ()
) -> None:
    """Refuse a checkpoint with any of these.

    Raises:
        ConfigError: naming the first of each kind, with their numbers.
    """
    problems = [
        *_count(missing, "missing"),
        *_count(unexpected, "not part of the model"),
        *_count(mismatched, "of another shape"),
    ]
    if problems:
        raise ConfigError(
            f"{source}: the weights do not fit the model: {'; '.join(problems)}; get the files "
            "again, or those of one version"
        )


def _count(names: Iterable[str], kind: str) -> list[str]:
    ordered = sorted(names)
    if not ordered:
        return []
    more = ", ..." if len(ordered) > _NUM_NAMED else ""
    return [f"{len(ordered)} {kind}: {', '.join(ordered[:_NUM_NAMED])}{more}"]


def _shape(size: Iterable[int]) -> str:
    return "x".join(str(length) for length in size) or "a number"
