"""What an executor is: something that has shards tried by workers, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sekd.pipeline.work import Claim, Event, Job


class Executor(Protocol):
    """Tries every claim once."""

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """Try every claim once, in order, on one or several workers.

        A worker that dies costs the shard it was at; that is recorded, and another worker takes
        the rest.

        Args:
            report: called in this process with what happened.

        Raises:
            FatalError: no worker is left; what was done before stays done.
            ConfigError: workers cannot be opened under this config.
        """
        ...
