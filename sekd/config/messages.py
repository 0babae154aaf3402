"""Messages about a config: which key is wrong, and which known name is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sekd.config.base import Section


def explain(
    error: ValidationError, kind: type[Section], above: tuple[str, ...] = ()
) -> Iterator[str]:
    """Describe each problem of a section in one clause.

    Args:
        kind: type of the section.
        above: keys of the config that lead to the section.
    """
    for problem in error.errors():
        place = ".".join(map(str, (*above, *problem["loc"])))
        if problem["type"] == "extra_forbidden":
            known = _known_keys(kind, problem["loc"])
            yield f"unknown key {place}{nearest(place.split('.')[-1], known)}"
        else:
            given = problem["input"]
            shown = f" (got {given!r})" if not isinstance(given, Mapping) else ""
            yield f"{place}: {problem['msg']}{shown}"


def _known_keys(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """List the keys that are allowed beside the unknown key at ``place`` in a section."""
    for part in place[:-1]:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:
            return []
    return list(kind.model_fields) if hasattr(kind, "model_fields") else []


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Write the end of an error message: the nearest known name, or all known names."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if matches:
        return f"; did you mean {matches[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
