"""How two fingerprints differ, field by field.

A fingerprint is the SHA-256 of explicit, canonical JSON over everything that changes the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sekd.data.hashing import canonical_json

_ABSENT = "(absent)"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One "a.b: old -> new" per leaf field that is not the same."""
    old_fields, new_fields = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {_show(old_fields, key)} -> {_show(new_fields, key)}"
        for key in sorted(old_fields.keys() | new_fields.keys())
        if old_fields.get(key, _ABSENT) != new_fields.get(key, _ABSENT)
    ]


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _show(fields: Mapping[str, Any], key: str) -> str:
    if key not in fields:
        return _ABSENT
    value = fields[key]
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:12] if is_digest else canonical_json(value)
