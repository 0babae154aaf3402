"""One worker in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from sekd.config import ShardRuntime
from sekd.pipeline.executors.base import Executor
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.work import Claim, Event, Job, run_claim


class InlineExecutor(Executor):
    """Processes shards one by one in this process, which is the simplest to debug.

    A shard that hangs is interrupted only between two steps of Python. A shard that hangs in a
    library, or kills its process, needs the process executor.
    """

    @classmethod
    def from_runtime(cls, runtime: ShardRuntime) -> Self:
        """Make the executor; it has no settings of its own."""
        return cls()

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """Try every claim once; see :meth:`Executor.run`."""
        ledger = Ledger(job.directory)
        worker = job.open_worker()
        try:
            for claim in claims:
                run_claim(
                    ledger,
                    claim,
                    worker,
                    report,
                    timeout=job.shard_timeout,
                    max_quarantined_in_row=job.max_quarantined_in_row,
                )
        finally:
            worker.close()
