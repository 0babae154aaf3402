"""Run a stage: try each shard that is not done once, while other runners may do the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sekd.config import ShardRuntime
from sekd.data.shards import Shard
from sekd.errors import ConfigError, FatalError, SekdError
from sekd.pipeline.executors import open_executor
from sekd.pipeline.executors.base import Executor
from sekd.pipeline.executors.inline import InlineExecutor
from sekd.pipeline.ledger import PROCESS_DIED, ShardState
from sekd.pipeline.liveness import Observer
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.progress import Progress, show_progress
from sekd.pipeline.stage import Stage
from sekd.pipeline.work import Claim, Event, Job, Worker

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Seconds between two looks at the ledger of a runner that only waits for others."""


@dataclass(frozen=True)
class Outcome:
    """The end of a run of a stage.

    Attributes:
        manifest: manifest of the finished stage, ``None`` if shards are left.
        num_run: number of shards that this run tried.
        failed: shard -> why it is not done: its last error, or that its process died.
        exhausted: shards that have used up their attempts.
    """

    stage: Stage
    manifest: Manifest | None
    num_run: int
    failed: Mapping[int, str]
    exhausted: Sequence[int]


class IncompleteError(SekdError):
    """Shards of one or several stages are left; what is done stays done.

    Attributes:
        outcomes: outcome of each stage that could not be finished.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        names = ", ".join(outcome.stage.name for outcome in outcomes)
        super().__init__(f"shards are left of {names}")
        self.outcomes = outcomes


def run_settings(runtime: ShardRuntime, *, retry_failed: bool = False) -> dict[str, Any]:
    """Turn a stage's runtime settings into keyword arguments of :func:`run_stage`."""
    return {
        "max_attempts": runtime.max_attempts,
        "executor": open_executor(runtime),
        "shard_timeout": runtime.shard_timeout,
        "retry_failed": retry_failed,
        "max_failed_in_row": runtime.max_consecutive_failures,
        "max_quarantined_in_row": runtime.max_consecutive_quarantined,
    }


def run_stage(
    stage: Stage,
    open_worker: Callable[[], Worker],
    *,
    max_attempts: int,
    executor: Executor | None = None,
    shard_timeout: float | None = None,
    retry_failed: bool = False,
    max_failed_in_row: int | None = None,
    max_quarantined_in_row: int | None = None,
) -> Outcome:
    """Try every shard that is not done and has attempts left once; write the manifest at the end.

    A worker is opened only if there is something to do. A failed shard does not stop the others.
    Shards that another runner works on are left to it; this run waits for them at the end.

    Args:
        executor: runs the shards; by default one worker in this process.
        shard_timeout: seconds after which an attempt at a shard is given up.
        retry_failed: first grants shards that have used up their attempts a new budget, and does
            shards with quarantined samples again; where that fails, they stay as they are.
        max_failed_in_row: shards that failed one after another at which the run stops.
        max_quarantined_in_row: see :class:`Job`.

    Raises:
        FatalError: if no worker is left, or too many shards or samples failed in a row; what was
            done before stays done.
    """
    manifest = _sound_manifest(stage)
    if manifest is not None and not (retry_failed and manifest.quarantined):
        return Outcome(stage, manifest, 0, {}, [])
    if retry_failed:
        _grant_retries(stage, max_attempts)
    run = _Run(stage, max_attempts, Observer(), max_failed_in_row)
    job = Job(stage.directory, open_worker, shard_timeout, max_quarantined_in_row)
    states = run.try_shards(job, executor or InlineExecutor())
    not_done = {
        shard.index: state
        for shard, state in zip(stage.plan, states, strict=True)
        if state.status != "done"
    }
    if not not_done:
        manifest = Manifest.finalise(stage.ledger, stage.fingerprint, stage.plan, states)
        if manifest is None:  # files were damaged after their commit: do their shards again
            return run_stage(
                stage,
                open_worker,
                max_attempts=max_attempts,
                executor=executor,
                shard_timeout=shard_timeout,
                max_failed_in_row=max_failed_in_row,
                max_quarantined_in_row=max_quarantined_in_row,
            )
    return Outcome(
        stage=stage,
        manifest=manifest,
        num_run=len(run.tried),
        failed={shard: _why_not_done(state) for shard, state in not_done.items()},
        exhausted=[shard for shard, state in not_done.items() if state.num_used >= max_attempts],
    )


def _sound_manifest(stage: Stage) -> Manifest | None:
    """Return the manifest if its files still have their sizes; remove it if it is damaged."""
    try:
        manifest = Manifest.load(stage.directory, stage.plan.content)
    except ConfigError:
        pass
    else:
        if manifest.is_sound(stage.ledger):
            return manifest
        logger.warning("%s: files of it are damaged; doing their shards again", stage.directory)
    Manifest.discard(stage.directory, stage.plan.content)
    return None


def _grant_retries(stage: Stage, max_attempts: int) -> None:
    """Grant a new budget to shards that used up theirs, or have quarantined samples."""
    for shard, state in zip(stage.plan, stage.states(), strict=True):
        is_exhausted = state.status != "done" and state.num_used >= max_attempts
        is_incomplete = state.status == "done" and state.record and state.record["quarantined"]
        if is_exhausted or is_incomplete:
            stage.ledger.grant_retry(shard.index, state.num_attempts)
        if is_incomplete:
            Manifest.discard(stage.directory, stage.plan.content)


def _why_not_done(state: ShardState) -> str:
    if state.record is not None and "error" in state.record:
        return str(state.record["error"])
    if state.status == "lost":
        return PROCESS_DIED
    return f"it is {state.status}"


@dataclass
class _Run:
    """One run: rounds over the shards that are left, until nothing is left to try.

    Attributes:
        tried: shards that this run has tried.
    """

    stage: Stage
    max_attempts: int
    observer: Observer
    max_failed_in_row: int | None = None

    def __post_init__(self) -> None:
        self.tried: set[int] = set()
        self._failed_in_row: list[int] = []
        self._num_samples = {shard.index: len(shard.sample_ids) for shard in self.stage.plan}
        self._num_failed = 0
        self._num_quarantined = 0

    def try_shards(self, job: Job, executor: Executor) -> list[ShardState]:
        """Run rounds until nothing is left to try or to wait for; return the states then."""
        states = self._update_states()
        claims, awaited = self._claims(states), self._shards_of_others(states)
        shards = [claim.shard for claim in claims] + awaited
        num_samples = sum(len(shard.sample_ids) for shard in shards)
        if not num_samples:
            return states
        with show_progress(self.stage.name, num_samples) as progress:
            while claims or awaited:
                if claims:
                    self.tried |= {claim.shard.index for claim in claims}
                    executor.run(job, claims, lambda event: self._handle(event, progress))
                else:
                    progress.note(f"waiting for {len(awaited)} shards of other runners")
                    time.sleep(POLL_SECONDS)
                states = self._update_states()
                claims, awaited = self._claims(states), self._shards_of_others(states)
        return states

    def _update_states(self) -> list[ShardState]:
        """End the attempts of dead processes in their place, then derive the states."""
        ledger = self.stage.ledger
        for shard, number in ledger.unfinished():
            if ledger.is_lost(shard, number, self.observer):
                ledger.give_up(shard, number, "lost", PROCESS_DIED)
        return self.stage.states(self.observer)

    def _claims(self, states: Sequence[ShardState]) -> list[Claim]:
        """List what to try next.

        The least tried shards come first, so that one that kills its process cannot starve others.
        """
        to_try = [
            (shard, state.num_attempts)
            for shard, state in zip(self.stage.plan, states, strict=True)
            if state.status not in ("done", "running")
            and state.num_used < self.max_attempts
            and shard.index not in self.tried
        ]
        to_try.sort(key=lambda entry: entry[1])
        return [Claim(shard, num_attempts + 1) for shard, num_attempts in to_try]

    def _shards_of_others(self, states: Sequence[ShardState]) -> list[Shard]:
        """List the shards that other runners work on."""
        return [
            shard
            for shard, state in zip(self.stage.plan, states, strict=True)
            if state.status == "running"
        ]

    def _handle(self, event: Event, progress: Progress) -> None:
        """Count an event and show it."""
        progress.advance(event.num_samples)
        if event.kind == "taken":
            self.tried.discard(event.shard)
        if event.kind == "failed":
            self._num_failed += 1
        self._num_quarantined += event.num_quarantined
        notes = []
        if self._num_failed:
            notes.append(f"{self._num_failed} shards failed")
        if self._num_quarantined:
            notes.append(f"{self._num_quarantined} quarantined")
        progress.note(", ".join(notes))
        self._stop_after_streak(event)

    def _stop_after_streak(self, event: Event) -> None:
        """Stop when too many shards fail in a row, and give them the attempt back.

        Raises:
            FatalError: with the error of the last one.
        """
        if event.kind not in ("done", "failed"):
            return
        if event.kind == "done" and event.num_quarantined < self._num_samples[event.shard]:
            self._failed_in_row.clear()
            return
        self._failed_in_row.append(event.shard)
        if len(self._failed_in_row) != self.max_failed_in_row:
            return
        ledger = self.stage.ledger
        for shard in self._failed_in_row:
            ledger.grant_retry(shard, ledger.last_number(shard))
        raise FatalError(
            f"{self.stage.name}: {len(self._failed_in_row)} shards failed one after another, the "
            f"last one with: {event.error or 'all its samples are quarantined'}; see what is "
            "broken, and run again: these shards have their attempts back "
            "(runtime.max_consecutive_failures)"
        )
