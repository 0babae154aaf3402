"""How a run stands, derived from its records alone: for people, for scripts, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sekd.data.shards import Shard
from sekd.io.files import names_in
from sekd.io.locations import Location
from sekd.pipeline.fingerprint import differences
from sekd.pipeline.ledger import Ledger, ShardState
from sekd.pipeline.plan import read_plan, read_plan_record
from sekd.pipeline.stage import newest_first

_STAGE_ROOTS = ("answers", "states", "predictions")


@dataclass(frozen=True)
class StageStatus:
    """How one stage stands.

    Attributes:
        shards: how many shards are in each status.
        num_planned, num_done, num_quarantined: samples.
        rate: samples per second of one worker; ``None`` before a shard is done.
        seconds_left: with as many workers as are running now, at least one.
        errors: of shards that failed or were lost: shard, attempt, error, path of its log.
        quarantined: sample_id, reason, level.
        changes: how its fingerprint differs from that of the directory before it.
    """

    name: str
    directory: str
    shards: Mapping[str, int]
    num_planned: int
    num_done: int
    num_quarantined: int
    rate: float | None
    seconds_left: float | None
    errors: Sequence[Mapping[str, Any]]
    quarantined: Sequence[Mapping[str, Any]]
    changes: Sequence[str]

    @property
    def is_complete(self) -> bool:
        """Whether every planned sample is done or quarantined."""
        return self.num_done + self.num_quarantined == self.num_planned


def stage_roots(run: Location) -> Iterator[tuple[str, Location]]:
    """Name and place of every stage of a run that has shards."""
    for name in _STAGE_ROOTS:
        if name != "predictions":
            yield name, run / name
            continue
        for child in names_in(run / name):
            yield f"{name}/{child}", run / name / child


def stage_directories(run: Location) -> Iterator[tuple[str, Location]]:
    """Name and directory of every fingerprint of every stage of a run."""
    for name, root in stage_roots(run):
        for child in names_in(root):
            if names_in(root / child):
                yield name, root / child


def run_status(run: Location) -> list[StageStatus]:
    """Status of each stage's newest directory."""
    stages = []
    for name, root in stage_roots(run):
        found = newest_first(root)
        if found:
            changes = differences(found[1][1], found[0][1]) if len(found) > 1 else []
            stages.append(_stage_status(name, found[0][0], changes))
    return stages


def _stage_status(name: str, directory: Location, changes: Sequence[str]) -> StageStatus:
    try:
        record = read_plan_record(directory)
        num_shards, num_planned = int(record["num_shards"]), int(record["num_samples"])
    except FileNotFoundError:
        num_shards = num_planned = 0
    except ValueError:  # a damaged record; the plan itself may be whole
        plan = read_plan(directory)
        num_shards, num_planned = len(plan), plan.num_samples
    ledger = Ledger(directory)
    tried = ledger.tried()
    states = dict(zip(tried, ledger.states(Shard(index, ()) for index in tried), strict=True))
    shards = Counter(state.status for state in states.values())
    shards["pending"] += num_shards - len(states)
    done = [s.record for s in states.values() if s.status == "done" and s.record is not None]
    num_done = sum(record["num_done"] for record in done)
    quarantined = [sample for record in done for sample in record["quarantined"]]
    seconds = sum(record["seconds"] for record in done)
    rate = (num_done + len(quarantined)) / seconds if seconds else None
    left = num_planned - num_done - len(quarantined)
    return StageStatus(
        name=name,
        directory=str(directory),
        shards={status: count for status, count in shards.items() if count},
        num_planned=num_planned,
        num_done=num_done,
        num_quarantined=len(quarantined),
        rate=rate,
        seconds_left=left / (rate * max(1, shards["running"])) if rate else None,
        errors=[_error(ledger, i, s) for i, s in states.items() if s.status in ("failed", "lost")],
        quarantined=quarantined,
        changes=changes,
    )


def _error(ledger: Ledger, shard: int, state: ShardState) -> dict[str, Any]:
    number = state.num_attempts
    error = state.record["error"] if state.record else "the process died on it"
    log = ledger.logs / f"{shard:05d}-{number:03d}.jsonl"
    return {"shard": shard, "attempt": number, "error": error, "log": str(log)}
