"""Names on disk of what belongs to an attempt: its records, its data folder and its log."""

from __future__ import annotations

import re
import uuid
from typing import Literal, get_args

RecordKind = Literal["start", "end", "revoked", "retry", "beat"]
"""Kinds of files in ``attempts/``. A ``beat`` is rewritten, all others are immutable records."""

_KINDS: dict[str, RecordKind] = {kind: kind for kind in get_args(RecordKind)}
_RECORD_NAME = re.compile(
    rf"(?P<shard>[0-9]+)-(?P<number>[0-9]+)\.(?P<kind>{'|'.join(_KINDS)})\.json"
)
_DATA_FOLDER = re.compile(r"(?P<attempt>[0-9]{5,}-[0-9]{3,})-[0-9a-f]{6}")


def attempt_name(shard: int, number: int) -> str:
    """Name an attempt, e.g. ``00017-002``; the name is unique in its stage."""
    return f"{shard:05d}-{number:03d}"


def record_name(shard: int, number: int, kind: RecordKind) -> str:
    """Name a record of an attempt, e.g. ``00017-002.end.json``."""
    return f"{attempt_name(shard, number)}.{kind}.json"


def parse_record_name(name: str) -> tuple[int, int, RecordKind] | None:
    """Return the shard, the attempt's number and the kind that :func:`record_name` was given.

    Returns:
        ``None`` for a file of another program, such as ``Thumbs.db`` or ``… (copy).json``.
    """
    found = _RECORD_NAME.fullmatch(name)
    if found is None:
        return None
    shard, number, kind = int(found["shard"]), int(found["number"]), _KINDS[found["kind"]]
    return (shard, number, kind) if record_name(shard, number, kind) == name else None


def new_data_folder(shard: int, number: int) -> str:
    """Name an attempt's data folder, e.g. ``00017-002-0f3a2b``.

    Its random end keeps two processes apart even where a store gave both the same number.
    """
    return f"{attempt_name(shard, number)}-{uuid.uuid4().hex[:6]}"


def attempt_of_data_folder(folder: str) -> str | None:
    """Return the name of the attempt that a data folder belongs to; ``None`` for another name."""
    found = _DATA_FOLDER.fullmatch(folder)
    return None if found is None else found["attempt"]


def log_name(shard: int, number: int) -> str:
    """Name the log of an attempt, e.g. ``00017-002.jsonl``."""
    return f"{attempt_name(shard, number)}.jsonl"
