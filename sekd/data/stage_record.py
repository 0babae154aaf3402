"""The record of one stage of a run, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageRecord:
    """One directory of a stage.

    Attributes:
        stage: the name of the stage, such as ``answers``.
        fingerprint: the name of the directory.
        fields: everything that the fingerprint is made from.
        num_done: number of samples with a result; ``None`` if the stage is not finished or has no
            shards.
        num_quarantined: number of samples that were given up; ``None`` as above.
    """

    stage: str
    fingerprint: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    num_done: int | None = None
    num_quarantined: int | None = None
