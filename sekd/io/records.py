"""Records: JSON on one line that carries the SHA-256 of its own bytes.

A record with a flipped byte or a missing end cannot be read, so nothing ever follows from one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sekd.io.files import read_bytes
from sekd.io.locations import Location

_SEAL = b', "sha256": "%s"}\n'
_SEAL_LENGTH = len(_SEAL % bytes(64))


class DamagedFileError(ValueError):
    """A file is not what was written.

    Attributes:
        path: the file.
        reason: in what way it is damaged.
    """

    def __init__(self, path: Location, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def seal(content: Mapping[str, Any]) -> bytes:
    """Make a record of this content; its last field is the hash of all bytes before that field."""
    body = json.dumps(dict(content), ensure_ascii=False, allow_nan=False).encode()[:-1]
    return body + _seal_of(body)


def unseal(record: bytes) -> dict[str, Any]:
    """Read the content of a record.

    Raises:
        ValueError: if it is not, byte for byte, what :func:`seal` made.
    """
    body, seal_of_record = record[:-_SEAL_LENGTH], record[-_SEAL_LENGTH:]
    if not body or seal_of_record != _seal_of(body):
        raise ValueError("not the bytes that were written: its own hash does not fit")
    content: dict[str, Any] = json.loads(body + b"}")
    return content


def hash_in_record(record: bytes) -> str:
    """Return the SHA-256 that a record carries as its last field."""
    return str(json.loads(record)["sha256"])


def read_record(path: Location) -> dict[str, Any]:
    """Read the content of the record in a file.

    Raises:
        FileNotFoundError: if there is no such file.
        StorageError: if it cannot be read.
        DamagedFileError: if the file holds no record.
    """
    try:
        return unseal(read_bytes(path))
    except ValueError as error:
        raise DamagedFileError(path, str(error)) from error


def _seal_of(body: bytes) -> bytes:
    return _SEAL % hashlib.sha256(body).hexdigest().encode()
