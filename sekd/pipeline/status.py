"""Derive the status of a run from its records, without loading a model."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sekd.data.shards import Shard
from sekd.data.stage_record import StageRecord
from sekd.errors import ConfigError
from sekd.io.files import names_in
from sekd.io.locations import Location
from sekd.pipeline.fingerprint import differences
from sekd.pipeline.ledger import PROCESS_DIED, Ledger, ShardState
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.names import log_name
from sekd.pipeline.plan import has_earlier_layout, newest_revision
from sekd.pipeline.products import Product, find_products, runs_of
from sekd.pipeline.stage import newest_first

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageStatus:
    """The status of one stage.

    Attributes:
        shards: number of shards in each status.
        num_planned, num_done, num_quarantined: numbers of samples.
        rate: samples per second of one worker; ``None`` before a shard is done.
        seconds_left: estimate for the number of workers that run now, or for one if none runs.
        errors: shard, attempt, error and path of the log, for each shard that failed or was lost.
        quarantined: sample_id, reason and level of each quarantined sample.
        changes: how the stage's fingerprint differs from that of the directory before it.
        num_added: number of samples that the newest revision of the plan added to the one before.
        superseded: shards that no longer count since then, and why.
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
    num_added: int = 0
    superseded: Sequence[tuple[int, str]] = ()

    @property
    def is_complete(self) -> bool:
        """Tell whether every planned sample is done or quarantined."""
        return self.num_done + self.num_quarantined == self.num_planned


@dataclass(frozen=True)
class ProductStatus:
    """The status of what is made without shards: a student, an evaluation, a sweep, rounds.

    Attributes:
        text: how far it is, for a person.
    """

    name: str
    text: str
    is_complete: bool


def products_of(run: Location) -> list[ProductStatus]:
    """Return the status of what a run and its later rounds have beside stages with shards.

    Of the students, those of the newest fingerprint count.
    """
    statuses = []
    for prefix, one in runs_of(run):
        students = newest_first(one / "distill")[:1]
        products = [
            product
            for product in find_products(one)
            if product.command != "distill"
            and product.name != "results"
            and not product.name.endswith(".config")
        ]
        if students:
            directory, _ = students[0]
            student = Product("adapter", "distill", directory, "adapter")
            if student.read() is None and not names_in(directory / "adapter"):
                statuses.append(_status_of_training(prefix, directory))
            else:
                products.insert(0, student)
        statuses += [_status_of_product(prefix, product) for product in products]
    return statuses


def _status_of_training(prefix: str, directory: Location) -> ProductStatus:
    names = [name for name in names_in(directory / "checkpoints") if name[-1:].isdigit()]
    last = max(names, key=lambda name: int(name.rpartition("-")[2]), default="no checkpoint")
    return ProductStatus(f"{prefix}distill", f"in training, {last}; {directory}", False)


def _status_of_product(prefix: str, product: Product) -> ProductStatus:
    """Say whether a product is whole; of one on a remote store, only its record is read."""
    is_looked_at = isinstance(product.directory, Path) or product.read() is None
    damage = next(product.find_damages(), None) if is_looked_at else None
    is_student = product.command == "distill"
    text = "the student is finished" if is_student else "finished"
    if damage is not None:
        text = f"{damage}; run sekd {product.command} again"
    name = "distill" if is_student else product.name
    return ProductStatus(f"{prefix}{name}", f"{text}; {product.directory}", damage is None)


def stage_roots(run: Location) -> Iterator[tuple[str, Location]]:
    """Yield name and place of every stage with shards of a run and its later rounds."""
    for prefix, one in runs_of(run):
        for name, root in _own_stage_roots(one):
            yield f"{prefix}{name}", root


def _own_stage_roots(run: Location) -> Iterator[tuple[str, Location]]:
    for dataset in names_in(run / "descents"):
        yield f"descents/{dataset}", run / "descents" / dataset
    yield "answers", run / "answers"
    yield "states", run / "states"
    for cell in names_in(run / "predictions"):
        yield f"predictions/{cell}", run / "predictions" / cell
    yield "predict", run / "predict"


def stage_directories(run: Location) -> Iterator[tuple[str, Location]]:
    """Yield name and directory of every fingerprint of every stage of a run."""
    for name, root in stage_roots(run):
        for fingerprint in names_in(root):
            if names_in(root / fingerprint):
                yield name, root / fingerprint


def run_status(run: Location) -> list[StageStatus]:
    """Derive the status of each stage's newest directory.

    Raises:
        DamagedFileError: if a revision of a stage's plan is damaged.
    """
    stages = []
    for name, root in stage_roots(run):
        directories = newest_first(root)
        if not directories:
            continue
        newest, fields = directories[0]
        changes: Sequence[str] = []
        if len(directories) > 1:
            _, earlier_fields = directories[1]
            changes = differences(earlier_fields, fields)
        if has_earlier_layout(newest):
            changes = ["its layout, of an earlier version of sekd: the next run starts anew"]
        stages.append(_stage_status(name, newest, changes))
    return stages


def _stage_status(name: str, directory: Location, changes: Sequence[str]) -> StageStatus:
    revision = newest_revision(directory)
    num_shards = revision.num_shards if revision else 0
    num_planned = revision.num_samples if revision else 0
    counted = revision.shards if revision else set()
    ledger = Ledger(directory)
    tried = [shard for shard in ledger.tried() if shard in counted]
    states = dict(zip(tried, ledger.states(Shard(index, ()) for index in tried), strict=True))
    num_by_status = Counter(state.status for state in states.values())
    num_by_status["pending"] += num_shards - len(states)
    done = [
        state.record
        for state in states.values()
        if state.status == "done" and state.record is not None
    ]
    num_done = sum(record["num_done"] for record in done)
    quarantined = [sample for record in done for sample in record["quarantined"]]
    seconds = sum(record["seconds"] for record in done)
    rate = (num_done + len(quarantined)) / seconds if seconds else None
    num_left = num_planned - num_done - len(quarantined)
    num_workers = max(1, num_by_status["running"])
    return StageStatus(
        name=name,
        directory=str(directory),
        shards={status: count for status, count in num_by_status.items() if count},
        num_planned=num_planned,
        num_done=num_done,
        num_quarantined=len(quarantined),
        rate=rate,
        seconds_left=num_left / (rate * num_workers) if rate else None,
        errors=[
            _describe_failure(ledger, shard, state)
            for shard, state in states.items()
            if state.status in ("failed", "lost")
        ],
        quarantined=quarantined,
        changes=changes,
        num_added=revision.num_added if revision and revision.number else 0,
        superseded=revision.superseded if revision else (),
    )


def _describe_failure(ledger: Ledger, shard: int, state: ShardState) -> dict[str, Any]:
    number = state.num_attempts
    error = state.record["error"] if state.record else PROCESS_DIED
    log = ledger.logs / log_name(shard, number)
    return {"shard": shard, "attempt": number, "error": error, "log": str(log)}


def read_stage_records(run: Location) -> list[StageRecord]:
    """Read the record of every stage that was started, the newest directory of a stage first."""
    records = []
    for name, root in [*_own_stage_roots(run), ("distill", run / "distill")]:
        for directory, fields in newest_first(root):
            record = StageRecord(name, directory.name, fields)
            try:
                revision = newest_revision(directory)
                manifest = Manifest.load(directory, revision.content if revision else "")
                record = replace(
                    record,
                    num_done=manifest.num_samples,
                    num_quarantined=len(manifest.quarantined),
                )
            except ConfigError:  # distill has no manifest, and a stage may not be finished
                logger.debug("%s has no manifest", directory)
            records.append(record)
    return records
