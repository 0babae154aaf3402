"""Shards: lists of samples that are processed and committed together, and their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Shard:
    """A numbered list of samples, processed and committed together.

    Attributes:
        key: the hash of everything that its results depend on beside the settings of its stage;
            empty where only the number is known.
    """

    index: int
    sample_ids: tuple[str, ...]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A sample that was set aside, the reason, and the level at which it failed, if known."""

    sample_id: str
    reason: str
    level: int | None = None


@dataclass(frozen=True)
class ShardResult:
    """The result of processing a shard.

    Attributes:
        files: role ("answers", "states") -> data file inside the attempt's folder.
        num_done: the number of samples in those files.
        quarantined: the samples that are not in them.
        stats: measurements (parity, token counts, seconds), as JSON can hold them.
    """

    files: Mapping[str, Path]
    num_done: int
    quarantined: Sequence[Quarantined] = ()
    stats: Mapping[str, Any] = field(default_factory=dict)
