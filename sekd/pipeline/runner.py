"""Runs a stage: one directory per fingerprint, a stored plan, and only the shards not yet done."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sekd.data.hashing import digest
from sekd.data.shards import Shard, ShardResult
from sekd.errors import FatalError, ShardError
from sekd.pipeline.files import write_atomically
from sekd.pipeline.fingerprint import differences
from sekd.pipeline.ledger import Attempt, Ledger, ShardState
from sekd.pipeline.manifest import MANIFEST_NAME, Manifest
from sekd.pipeline.plan import Plan
from sekd.pipeline.progress import Progress, show_progress

logger = logging.getLogger(__name__)

FINGERPRINT_NAME = "fingerprint.json"


class Worker(Protocol):
    """Does shard after shard with one loaded engine."""

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Write the shard's files into ``folder``, reopen and check them, and say what was done.

        Args:
            advance: to be called with the number of samples that just went through.

        Raises:
            ShardError: the shard failed, another may not.
            FatalError: the worker is broken.
        """
        ...

    def close(self) -> None:
        """Free the engine."""
        ...


@dataclass(frozen=True)
class Stage:
    """A stage's directory for one fingerprint: ``<root>/<first 16 digits>``."""

    name: str
    directory: Path
    fingerprint: str
    plan: Plan
    ledger: Ledger

    @classmethod
    def open(cls, root: Path, fields: Mapping[str, Any], make_plan: Callable[[], Plan]) -> Stage:
        """Open the directory of this fingerprint, or create it with its plan.

        A stored plan is kept as it is; ``make_plan`` is called only where there is none.
        """
        directory = open_directory(root, fields)
        if not (directory / "plan.parquet").is_file():
            make_plan().write(directory / "plan.parquet")
        plan = Plan.read(directory / "plan.parquet")
        return cls(root.name, directory, digest(fields), plan, Ledger(directory))

    def states(self) -> list[ShardState]:
        """Status of every shard."""
        return self.ledger.states(self.plan)


def open_directory(root: Path, fields: Mapping[str, Any]) -> Path:
    """The directory of these fields' fingerprint below ``root``, created if need be.

    A new directory beside others is announced with what differs, field by field.
    """
    fingerprint = digest(fields)
    directory = root / fingerprint[:16]
    if not (directory / FINGERPRINT_NAME).is_file():
        for earlier, old_fields in _newest_first(root)[:1]:
            changes = "; ".join(differences(old_fields, fields))
            logger.info("%s: not the config of %s: %s", root.name, earlier, changes)
        content = {"fingerprint": fingerprint, "fields": fields}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_atomically(directory / FINGERPRINT_NAME, text)
    return directory


def _newest_first(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Directories below ``root`` with their fingerprint fields."""
    paths = sorted(
        root.glob(f"*/{FINGERPRINT_NAME}"), key=lambda path: path.stat().st_mtime_ns, reverse=True
    )
    return [(path.parent, json.loads(path.read_text("utf-8"))["fields"]) for path in paths]


def directories(root: Path, spec: Mapping[str, Any]) -> list[Path]:
    """Directories below ``root`` whose fingerprint holds this spec, newest first."""
    return [path for path, fields in _newest_first(root) if fields["spec"] == spec]


def finished(root: Path, spec: Mapping[str, Any]) -> Manifest | None:
    """The newest finished stage below ``root`` whose fingerprint holds this spec."""
    for directory in directories(root, spec):
        if (directory / MANIFEST_NAME).is_file():
            return Manifest.load(directory)
    return None


def changes_since(root: Path, spec: Mapping[str, Any]) -> list[str]:
    """How ``spec`` differs from that of the newest directory below ``root``, field by field."""
    for _, fields in _newest_first(root)[:1]:
        return differences(fields["spec"], spec)
    return []


@dataclass(frozen=True)
class Outcome:
    """How a run of a stage ended.

    Attributes:
        manifest: the finished stage's, ``None`` if shards are left.
        failed: shard -> its last error, or that it was lost.
        exhausted: those of them that have used up their attempts.
    """

    stage: Stage
    manifest: Manifest | None
    num_run: int
    failed: Mapping[int, str]
    exhausted: Sequence[int]


def run_stage(stage: Stage, open_worker: Callable[[], Worker], *, max_attempts: int) -> Outcome:
    """Do every shard that is not done and has attempts left, once; then finalise if all are done.

    The worker is opened only if there is something to do. A failed shard does not stop the others.

    Raises:
        FatalError: the worker broke; what was done before stays done.
    """
    states = stage.states()
    todo = [
        shard
        for shard, state in zip(stage.plan, states, strict=True)
        if state.status != "done" and state.num_attempts < max_attempts
    ]
    if todo:
        num_samples = sum(len(shard.sample_ids) for shard in todo)
        worker = open_worker()
        try:
            with show_progress(stage.name, num_samples) as progress:
                _run_shards(stage.ledger, todo, worker, progress)
        finally:
            worker.close()
        states = stage.states()
    left = {
        shard.index: state
        for shard, state in zip(stage.plan, states, strict=True)
        if state.status != "done"
    }
    manifest = None
    if not left:
        manifest = Manifest.finalise(stage.directory, stage.fingerprint, stage.plan, states)
    return Outcome(
        stage=stage,
        manifest=manifest,
        num_run=len(todo),
        failed={
            index: state.record["error"] if state.record else "the process died on it"
            for index, state in left.items()
        },
        exhausted=[index for index, s in left.items() if s.num_attempts >= max_attempts],
    )


def _run_shards(
    ledger: Ledger, shards: Sequence[Shard], worker: Worker, progress: Progress
) -> None:
    num_failed = num_quarantined = 0
    for shard in shards:
        result = _run_shard(ledger.begin(shard.index), shard, worker, progress)
        num_failed += result is None
        num_quarantined += len(result.quarantined) if result else 0
        counts = ((num_failed, "shards failed"), (num_quarantined, "quarantined"))
        progress.note(", ".join(f"{count} {name}" for count, name in counts if count))


def _run_shard(
    attempt: Attempt, shard: Shard, worker: Worker, progress: Progress
) -> ShardResult | None:
    try:
        result = worker.process(shard, attempt.folder, progress.advance)
        num_seen = result.num_done + len(result.quarantined)
        if num_seen != len(shard.sample_ids):
            raise ShardError(f"{num_seen} samples came back of {len(shard.sample_ids)} planned")
        for sample in result.quarantined:
            logger.warning("quarantined %s: %s", sample.sample_id, sample.reason)
        attempt.commit(result)
        return result
    except FatalError as error:
        attempt.fail(error)
        raise
    except Exception as error:  # the shard's boundary: recorded, and the others go on
        logger.warning("shard %d failed: %s", shard.index, error)
        logger.debug("shard %d failed", shard.index, exc_info=True)
        attempt.fail(error)
        return None
