"""Hashes of files, directories and explicit, canonical JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sekd.io.directories import files_below
from sekd.io.faults import refuse_short_read, retry

_CHUNK_BYTES = 1 << 18
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """Write a value as JSON with sorted keys and no spaces.

    Raises:
        TypeError, ValueError: on anything that JSON cannot hold exactly (objects, NaN); nothing is
            pickled or turned into its ``repr``.
    """
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        StorageError: if it cannot be read.
    """

    def digest_content() -> str:
        sha256, num_bytes = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha256.update(chunk)
                num_bytes += len(chunk)
            refuse_short_read(file, num_bytes)
        return sha256.hexdigest()

    return retry(digest_content, path)


def hash_directory(directory: Path) -> dict[str, str]:
    """Hash every file below a directory: relative path -> SHA-256, without hidden files."""
    hashes = {}
    for path in sorted(files_below(directory)):
        name = path.relative_to(directory)
        if not any(part.startswith(".") for part in name.parts):
            hashes[name.as_posix()] = hash_file(path)
    return hashes
