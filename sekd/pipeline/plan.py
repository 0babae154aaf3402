"""The plan: which sample is in which shard. It only ever grows.

It does not depend on the number of workers, so any number of them, on any day, do the same shards.
Each time that the inputs ask for other shards than before, a revision is added:
``plan-00000.json``, ``plan-00001.json`` and so on. A revision names the shards that count now, and
a Parquet file, by its hash, with those of them that are new. The number of a shard is never given
again. Of several runners that add a revision at once, the one that creates the record wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from sekd.data.shards import Shard
from sekd.errors import FatalError
from sekd.io.files import create_exclusively, names_in, remove, write_atomically
from sekd.io.hashing import digest
from sekd.io.locations import Location
from sekd.io.parquet_bytes import parquet_batches
from sekd.io.records import DamagedFileError, read_record, seal
from sekd.pipeline.inputs import Inputs, NewShard, Selection
from sekd.pipeline.plan_files import (
    PLAN_SCHEMA,
    read_shards,
    read_shards_file,
    shards_file_name,
    shards_to_parquet,
)

_NUM_EXPLAINED = 3
"""Number of shards of which a message says what has changed."""
_REVISION = re.compile(r"plan-(\d{5})\.json")


@dataclass(frozen=True)
class Plan:
    """The shards of a stage that count now, by their numbers."""

    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.shards)

    @property
    def num_samples(self) -> int:
        """Number of samples over all shards."""
        return sum(len(shard.sample_ids) for shard in self.shards)

    @cached_property
    def content(self) -> str:
        """The hash of what the shards are made from, which names it in a stage's directory."""
        return digest([shard.key for shard in self.shards])


@dataclass(frozen=True)
class Revision:
    """The content of ``plan-<number>.json``.

    Attributes:
        file: Parquet file of the new shards; ``None`` if there are none.
        next_shard: the number of the next shard that is planned.
        content: see :attr:`Plan.content`.
        ranges: the numbers of the shards that count, as pairs of the first and the one after the
            last.
        num_added: number of samples that were in no shard of the revision before.
        superseded: shards that counted in the revision before, and why they do no longer.
    """

    number: int
    file: str | None
    next_shard: int
    content: str
    ranges: Sequence[Sequence[int]]
    num_shards: int
    num_samples: int
    num_added: int
    superseded: Sequence[tuple[int, str]]

    @property
    def shards(self) -> set[int]:
        """The numbers of the shards that count."""
        return {shard for start, stop in self.ranges for shard in range(start, stop)}


def revision_name(number: int) -> str:
    """Name the record of a revision, e.g. ``plan-00003.json``."""
    return f"plan-{number:05d}.json"


def has_earlier_layout(directory: Location) -> bool:
    """Tell whether an earlier version of sekd made this directory, with one plan for ever."""
    return "plan.json" in names_in(directory)


def open_plan(directory: Location, inputs: Inputs) -> Plan:
    """Return the shards that these inputs ask for; add a revision if they are not the newest one.

    Raises:
        FatalError: if a damaged revision cannot be made again as it was.
    """
    while True:
        revisions: list[Revision] = []
        planned: list[Shard] = []
        try:
            for revision in read_revisions(directory):
                planned += read_shards(directory, revision.number, revision.file)
                revisions.append(revision)
        except DamagedFileError as error:
            _mend(directory, revisions, planned, inputs, error)
            continue
        selection = inputs.select(planned)
        plan = _plan_of(selection, revisions)
        if revisions and not selection.new and revisions[-1].content == plan.content:
            return plan
        try:
            _add(directory, revisions, selection, plan, inputs)
        except FileExistsError:  # another runner was first; its shards may do
            continue
        return plan


def find_plan(directory: Location, inputs: Inputs) -> tuple[Plan, Sequence[NewShard]]:
    """Return the planned shards that these inputs ask for, and what is not planned yet.

    Nothing is written.

    Raises:
        DamagedFileError: if a revision is damaged.
    """
    planned = [
        shard
        for revision in read_revisions(directory)
        for shard in read_shards(directory, revision.number, revision.file)
    ]
    selection = inputs.select(planned)
    return Plan(tuple(selection.planned)), selection.new


def read_revisions(directory: Location) -> Iterator[Revision]:
    """Read the revisions of a plan, the oldest first; there are none before it is stored.

    Raises:
        DamagedFileError: at a revision that is damaged, or gone while a later one is there.
    """
    numbers = [int(match[1]) for name in names_in(directory) if (match := _REVISION.match(name))]
    number = 0
    while True:
        path = directory / revision_name(number)
        try:
            record = read_record(path)
        except FileNotFoundError as error:
            if number < max(numbers, default=0):
                raise DamagedFileError(path, "is gone") from error
            return
        yield Revision(**{name: record[name] for name in Revision.__dataclass_fields__})
        number += 1


def newest_revision(directory: Location) -> Revision | None:
    """Return the revision that counts; ``None`` before there is any.

    Raises:
        DamagedFileError: if a revision is damaged.
    """
    *_, newest = [None, *read_revisions(directory)]
    return newest


def check_plan(directory: Location) -> None:
    """Read every revision and the shards that it added.

    Raises:
        DamagedFileError: if a file is damaged or gone.
    """
    for revision in read_revisions(directory):
        read_shards_file(directory, revision.number, revision.file)


def why_not_planned(directory: Location, inputs: Inputs) -> str:
    """Say which inputs are in no planned shard, and what has changed since the newest revision.

    Raises:
        DamagedFileError: if a revision is damaged.
    """
    plan, unplanned = find_plan(directory, inputs)
    ids = [sample_id for shard in unplanned for sample_id in shard.sample_ids]
    revisions = list(read_revisions(directory))
    reasons = inputs.explain(_rows_that_counted(directory, revisions, plan)).values()
    shown = list(reasons)[:_NUM_EXPLAINED]
    return "; ".join([f"{len(ids):,} samples are new or changed, the first is {ids[0]}", *shown])


def _plan_of(selection: Selection, revisions: Sequence[Revision]) -> Plan:
    """Join planned and new shards; new ones get the numbers after all that were given so far."""
    first = revisions[-1].next_shard if revisions else 0
    new = [
        Shard(number, shard.sample_ids, shard.key)
        for number, shard in enumerate(selection.new, first)
    ]
    return Plan((*sorted(selection.planned, key=lambda shard: shard.index), *new))


def _add(
    directory: Location,
    revisions: Sequence[Revision],
    selection: Selection,
    plan: Plan,
    inputs: Inputs,
) -> None:
    """Store a revision.

    Raises:
        FileExistsError: if another runner has stored one of this number.
    """
    number = len(revisions)
    first = revisions[-1].next_shard if revisions else 0
    file = None
    if selection.new:
        content = shards_to_parquet(selection.new, first, inputs)
        file = shards_file_name(number, content)
        write_atomically(directory / file, content)
    superseded, num_before = _compare(directory, revisions, plan, inputs)
    revision = {
        "number": number,
        "file": file,
        "next_shard": first + len(selection.new),
        "content": plan.content,
        "ranges": _ranges([shard.index for shard in plan]),
        "num_shards": len(plan),
        "num_samples": plan.num_samples,
        "num_added": plan.num_samples - num_before,
        "superseded": superseded,
    }
    create_exclusively(directory / revision_name(number), seal(revision))


def _compare(
    directory: Location, revisions: Sequence[Revision], plan: Plan, inputs: Inputs
) -> tuple[list[tuple[int, str]], int]:
    """Compare a plan with the newest revision.

    Returns:
        Shards that count no longer, each with the reason, and how many samples of the plan were in
        shards that counted before.
    """
    if not revisions:
        return [], 0
    before = revisions[-1].shards
    rows = _rows_that_counted(directory, revisions, plan)
    num_kept = sum(len(shard.sample_ids) for shard in plan if shard.index in before)
    others = [i for shard in plan if shard.index not in before for i in shard.sample_ids]
    is_old = pc.is_in(pa.array(others, pa.string()), rows["sample_id"].combine_chunks())
    return sorted(inputs.explain(rows).items()), num_kept + (pc.sum(is_old).as_py() or 0)


def _rows_that_counted(directory: Location, revisions: Sequence[Revision], plan: Plan) -> pa.Table:
    """Read the rows of the shards that count in the newest revision and do not in this plan."""
    gone = pa.array(sorted(revisions[-1].shards - {shard.index for shard in plan}), pa.int32())
    tables = [PLAN_SCHEMA.empty_table()]
    for revision in revisions:
        content = read_shards_file(directory, revision.number, revision.file) if len(gone) else None
        if content is not None:
            table = pa.Table.from_batches(parquet_batches(content), PLAN_SCHEMA)
            tables.append(table.filter(pc.is_in(table["shard"], gone)))
    return pa.concat_tables(tables).unify_dictionaries()


def _mend(
    directory: Location,
    revisions: Sequence[Revision],
    planned: Sequence[Shard],
    inputs: Inputs,
    error: DamagedFileError,
) -> None:
    """Make a damaged revision again, if the hash of its shards shows that it is the same one.

    Args:
        revisions: those before the damaged one.
        planned: their shards.
    """
    number = len(revisions)
    record = directory / revision_name(number)
    selection = inputs.select(planned)
    first = revisions[-1].next_shard if revisions else 0
    content = shards_to_parquet(selection.new, first, inputs)
    file = shards_file_name(number, content) if selection.new else None
    stored = {name for name in names_in(directory) if name.startswith(f"plan-{number:05d}-")}
    is_record_whole = error.path != record
    if is_record_whole:
        stored = {str(read_record(record)["file"])}
    if (file is None and stored) or (file is not None and file not in stored):
        raise FatalError(
            f"{error}; it cannot be made again as it was: set runtime.shard_size and the data to "
            f"what they were, or remove {directory} to start over"
        ) from error
    if file is not None:
        write_atomically(directory / file, content)
    if not is_record_whole:
        if record.name in names_in(directory):
            remove(record)
        plan = _plan_of(selection, revisions)
        _add(directory, revisions, selection, plan, inputs)


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Write ascending numbers as ranges: the first number, and the one after the last."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        start = ranges.pop()[0] if ranges and ranges[-1][1] == number else number
        ranges.append((start, number + 1))
    return ranges
