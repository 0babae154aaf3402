"""Records: JSON on one line that carries the SHA-256 of its own bytes.

A record with a flipped byte or a missing end cannot be read, so nothing ever follows from one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def seal(content: Mapping[str, Any]) -> bytes:
    """The record of this content, its last field being the hash of all bytes before that field."""
    body = json.dumps(dict(content), ensure_ascii=False, allow_nan=False).encode()[:-1]
    return body + _seal_of(body)


def unseal(record: bytes) -> dict[str, Any]:
    """The content of a record.

    Raises:
        ValueError: if it is not, byte for byte, what :func:`seal` made.
    """
    length = len(_seal_of(b""))
    body, tail = record[:-length], record[-length:]
    if len(record) <= length or tail != _seal_of(body):
        raise ValueError("not the bytes that were written: its own hash does not fit")
    content: dict[str, Any] = json.loads(body + b"}")
    return content


def _seal_of(body: bytes) -> bytes:
    return b', "sha256": "%s"}\n' % hashlib.sha256(body).hexdigest().encode()
