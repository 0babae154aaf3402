"""The interface of an executor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

from sekd.config import ShardRuntime
from sekd.pipeline.work import Claim, Event, Job


class Executor(ABC):
    """Has shards processed by one or several workers, here or on other machines."""

    @classmethod
    @abstractmethod
    def from_runtime(cls, runtime: ShardRuntime) -> Self:
        """Make the executor that these settings describe.

        Raises:
            ConfigError: if this machine does not have what they ask for.
        """

    @abstractmethod
    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """Try every claim once, in order, on one or several workers.

        A worker that dies costs the shard that it worked on. That is recorded, and another worker
        takes the rest.

        Args:
            report: is called in this process with each event.

        Raises:
            FatalError: if no worker is left; what was done before stays done.
            ConfigError: if workers cannot be opened under this config.
        """
