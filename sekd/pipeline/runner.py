"""Runs a stage: only the shards not yet done, each once, beside whoever else is at them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sekd.config import ShardRuntime
from sekd.data.shards import Shard
from sekd.errors import ConfigError, SekdError
from sekd.pipeline.executors import open_executor
from sekd.pipeline.executors.inline import InlineExecutor
from sekd.pipeline.executors.protocol import Executor
from sekd.pipeline.ledger import ShardState
from sekd.pipeline.liveness import Observer
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.progress import Progress, show_progress
from sekd.pipeline.stage import Stage
from sekd.pipeline.work import Claim, Event, Job, Worker

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 2.0
"""How often a runner that has nothing else to do looks at what the others have done."""


@dataclass(frozen=True)
class Outcome:
    """How a run of a stage ended.

    Attributes:
        manifest: the finished stage's, ``None`` if shards are left.
        num_run: shards that this run tried.
        failed: shard -> its last error, or that it was lost.
        exhausted: those of them that have used up their attempts.
    """

    stage: Stage
    manifest: Manifest | None
    num_run: int
    failed: Mapping[int, str]
    exhausted: Sequence[int]


class IncompleteError(SekdError):
    """Shards of one or several stages are left; what is done stays done.

    Attributes:
        outcomes: of the stages that could not be finished.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        names = ", ".join(outcome.stage.name for outcome in outcomes)
        super().__init__(f"shards are left of {names}")
        self.outcomes = outcomes


def run_settings(runtime: ShardRuntime, *, retry_failed: bool = False) -> dict[str, Any]:
    """Keyword arguments of :func:`run_stage` for a stage's runtime settings."""
    return {
        "max_attempts": runtime.max_attempts,
        "executor": open_executor(runtime),
        "shard_timeout": runtime.shard_timeout,
        "retry_failed": retry_failed,
    }


def run_stage(
    stage: Stage,
    open_worker: Callable[[], Worker],
    *,
    max_attempts: int,
    executor: Executor | None = None,
    shard_timeout: float | None = None,
    retry_failed: bool = False,
) -> Outcome:
    """Do every shard that is not done and has attempts left, once; then finalise if all are done.

    A worker is opened only if there is something to do. A failed shard does not stop the others.
    Shards that another runner is at are left to it, and waited for at the end.

    Args:
        executor: runs the shards; one worker in this process by default.
        shard_timeout: seconds after which a shard is given up.
        retry_failed: grant shards that have used up their attempts a fresh budget first.

    Raises:
        FatalError: no worker is left; what was done before stays done.
    """
    manifest = _standing_manifest(stage)
    if manifest is not None:
        return Outcome(stage, manifest, 0, {}, [])
    if retry_failed:
        _grant_retries(stage, max_attempts)
    run = _Run(stage, max_attempts, Observer())
    job = Job(stage.directory, open_worker, shard_timeout)
    states = run.work(job, executor or InlineExecutor())
    left = {
        shard.index: state
        for shard, state in zip(stage.plan, states, strict=True)
        if state.status != "done"
    }
    if not left:
        manifest = Manifest.finalise(stage.ledger, stage.fingerprint, stage.plan, states)
        if manifest is None:  # files were damaged since they were committed: do their shards again
            return run_stage(
                stage,
                open_worker,
                max_attempts=max_attempts,
                executor=executor,
                shard_timeout=shard_timeout,
            )
    return Outcome(
        stage=stage,
        manifest=manifest,
        num_run=len(run.tried),
        failed={index: _reason(state) for index, state in left.items()},
        exhausted=[index for index, s in left.items() if s.num_used >= max_attempts],
    )


def _standing_manifest(stage: Stage) -> Manifest | None:
    """The manifest, if its files are still there; one that is damaged is removed."""
    try:
        manifest = Manifest.load(stage.directory)
    except ConfigError:
        pass
    else:
        if manifest.is_sound(stage.ledger):
            return manifest
        logger.warning("%s: files of it are damaged; doing their shards again", stage.directory)
    Manifest.discard(stage.directory)
    return None


def _grant_retries(stage: Stage, max_attempts: int) -> None:
    for shard, state in zip(stage.plan, stage.states(), strict=True):
        if state.status != "done" and state.num_used >= max_attempts:
            stage.ledger.grant_retry(shard.index, state.num_attempts)


def _reason(state: ShardState) -> str:
    if state.record is not None:
        return str(state.record["error"])
    if state.status == "lost":
        return "the process died on it"
    return f"it is {state.status}"


@dataclass
class _Run:
    """One run's rounds over the shards that are left."""

    stage: Stage
    max_attempts: int
    observer: Observer

    def __post_init__(self) -> None:
        self.tried: set[int] = set()
        self._num_failed = self._num_quarantined = 0

    def work(self, job: Job, executor: Executor) -> list[ShardState]:
        """Rounds until nothing is left to try or to wait for; returns the states then."""
        states = self._look()
        todo, others = self._sort(states)
        num_samples = sum(len(claim.shard.sample_ids) for claim in todo) + sum(
            len(shard.sample_ids) for shard in others
        )
        if not num_samples:
            return states
        with show_progress(self.stage.name, num_samples) as progress:
            while todo or others:
                if todo:
                    self.tried |= {claim.shard.index for claim in todo}
                    executor.run(job, todo, lambda event: self._show(event, progress))
                else:
                    progress.note(f"waiting for {len(others)} shards of other runners")
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                states = self._look()
                todo, others = self._sort(states)
        return states

    def _look(self) -> list[ShardState]:
        """Derive the states, after ending the attempts of the dead in their place."""
        ledger = self.stage.ledger
        for shard, number in ledger.unended():
            if ledger.is_gone(shard, number, self.observer):
                ledger.give_up(shard, number, "lost", "the process died on it")
        return self.stage.states(self.observer)

    def _sort(self, states: Sequence[ShardState]) -> tuple[list[Claim], list[Shard]]:
        """What to try, least tried first so that a shard that kills cannot starve the others."""
        pairs = list(zip(self.stage.plan, states, strict=True))
        todo = [
            (state.num_attempts, Claim(shard, state.num_attempts + 1))
            for shard, state in pairs
            if state.status not in ("done", "running")
            and state.num_used < self.max_attempts
            and shard.index not in self.tried
        ]
        todo.sort(key=lambda entry: entry[0])
        others = [shard for shard, state in pairs if state.status == "running"]
        return [claim for _, claim in todo], others

    def _show(self, event: Event, progress: Progress) -> None:
        progress.advance(event.num_samples)
        if event.kind == "taken":
            self.tried.discard(event.shard)
        self._num_failed += event.kind == "failed"
        self._num_quarantined += event.num_quarantined
        counts = ((self._num_failed, "shards failed"), (self._num_quarantined, "quarantined"))
        progress.note(", ".join(f"{count} {name}" for count, name in counts if count))
