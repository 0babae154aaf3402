"""Compare two fingerprints, field by field.

A fingerprint is the SHA-256 of explicit, canonical JSON over everything that changes the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sekd.io.hashing import canonical_json

_DIGEST = re.compile(r'"([0-9a-f]{12})[0-9a-f]{52}"')


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Write "a.b: old -> new" for each leaf field that is not the same."""
    old_fields, new_fields = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {_shortened(old_fields.get(key))} -> {_shortened(new_fields.get(key))}"
        for key in sorted(old_fields.keys() | new_fields.keys())
        if old_fields.get(key) != new_fields.get(key)
    ]


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield leaf fields as JSON, so that 1, 1.0 and true differ here as they do in the hash."""
    for key, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", canonical_json(value)


def _shortened(field: str | None) -> str:
    """Return a field's JSON, of a digest only the first 12 digits."""
    if field is None:
        return "(absent)"
    digest_match = _DIGEST.fullmatch(field)
    return digest_match[1] if digest_match else field
