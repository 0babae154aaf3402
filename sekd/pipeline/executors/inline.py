"""One worker in this very process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sekd.pipeline.ledger import Ledger
from sekd.pipeline.work import Claim, Event, Job, run_claim


class InlineExecutor:
    """Runs shards one by one in this process; the simplest to debug.

    A shard that hangs is interrupted only between two steps of Python; one that hangs in a library,
    or kills its process, needs the process executor.
    """

    def run(self, job: Job, claims: Sequence[Claim], report: Callable[[Event], None]) -> None:
        """See :class:`~sekd.pipeline.executors.protocol.Executor`."""
        ledger = Ledger(job.directory)
        worker = job.open_worker()
        try:
            for claim in claims:
                run_claim(ledger, claim, worker, report, timeout=job.shard_timeout)
        finally:
            worker.close()
