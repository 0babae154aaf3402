"""Names on disk of what belongs to an attempt: its records, its data folder and its log."""

from __future__ import annotations

import uuid
from typing import Literal

RecordKind = Literal["start", "end", "revoked", "retry", "beat"]
"""Kinds of files in ``attempts/``. A ``beat`` is rewritten, all others are immutable records."""


def attempt_name(shard: int, number: int) -> str:
    """Name an attempt, e.g. ``00017-002``; the name is unique in its stage."""
    return f"{shard:05d}-{number:03d}"


def record_name(shard: int, number: int, kind: RecordKind) -> str:
    """Name a record of an attempt, e.g. ``00017-002.end.json``."""
    return f"{attempt_name(shard, number)}.{kind}.json"


def parse_record_name(name: str) -> tuple[int, int, str]:
    """Return the shard, the attempt's number and the kind that :func:`record_name` was given."""
    attempt, kind, _ = name.split(".")
    shard, number = attempt.split("-")
    return int(shard), int(number), kind


def new_data_folder(shard: int, number: int) -> str:
    """Name an attempt's data folder, e.g. ``00017-002-0f3a2b``.

    Its random end keeps two processes apart even where a store gave both the same number.
    """
    return f"{attempt_name(shard, number)}-{uuid.uuid4().hex[:6]}"


def attempt_of_data_folder(folder: str) -> str:
    """Return the name of the attempt that a data folder belongs to."""
    return folder.rpartition("-")[0]


def log_name(shard: int, number: int) -> str:
    """Name the log of an attempt, e.g. ``00017-002.jsonl``."""
    return f"{attempt_name(shard, number)}.jsonl"
