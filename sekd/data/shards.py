"""What a shard is, and what a worker makes of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Shard:
    """A numbered list of samples, processed and committed together."""

    index: int
    sample_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A sample that was set aside, and why."""

    sample_id: str
    reason: str
    level: int | None = None


@dataclass(frozen=True)
class ShardResult:
    """What a worker made of a shard.

    Attributes:
        files: role ("answers", "states") -> data file inside the attempt's folder.
        num_done: samples in those files.
        quarantined: the others.
        figures: what was measured on the way (parity, token counts, seconds), JSON-ready.
    """

    files: Mapping[str, Path]
    num_done: int
    quarantined: Sequence[Quarantined] = ()
    stats: Mapping[str, Any] = field(default_factory=dict)
