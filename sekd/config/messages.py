"""Messages about a config: which key is wrong, and the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sekd.config.base import Section


def explain(
    error: ValidationError, kind: type[Section], above: tuple[str, ...] = ()
) -> Iterator[str]:
    """One clause per problem of a ``kind`` that stands below the keys ``above``."""
    for problem in error.errors():
        place = ".".join(map(str, (*above, *problem["loc"])))
        if problem["type"] == "extra_forbidden":
            known = _siblings(kind, problem["loc"])
            yield f"unknown key {place}{nearest(place.split('.')[-1], known)}"
        else:
            given = problem["input"]
            shown = f" (got {given!r})" if not isinstance(given, Mapping) else ""
            yield f"{place}: {problem['msg']}{shown}"


def _siblings(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """Keys that are allowed where the unknown key at ``place`` below a ``kind`` stands."""
    for part in place[:-1]:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:
            return []
    return list(kind.model_fields) if hasattr(kind, "model_fields") else []


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """End an error message with the nearest known name, or with all known names."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
