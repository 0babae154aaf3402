"""The plan: which sample is in which shard, fixed once and stored.

It does not depend on the number of workers, so any number of them, on any day, do the same shards.
``plan.json`` is a record that names the Parquet file by its hash: of several runners that make a
plan at once, the one that creates the record wins.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sekd.data.shards import Shard
from sekd.errors import FatalError
from sekd.io.files import create_exclusively, names_in, remove, write_atomically
from sekd.io.locations import Location
from sekd.io.records import DamagedFileError, read_record, seal

PLAN_NAME = "plan.json"
PLAN_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
    ]
)
_ROWS_PER_BATCH = 1 << 18


@dataclass(frozen=True)
class Plan:
    """All shards of a stage, in order."""

    shards: tuple[Shard, ...]

    @classmethod
    def split(cls, sample_ids: Sequence[str], shard_size: int) -> Plan:
        """Split the samples into consecutive shards of ``shard_size``; the last may be shorter."""
        starts = range(0, len(sample_ids), shard_size)
        return cls(
            tuple(
                Shard(index, tuple(sample_ids[start : start + shard_size]))
                for index, start in enumerate(starts)
            )
        )

    def without(self, sample_ids: Collection[str]) -> Plan:
        """Return the same shards without these samples and without shards that become empty."""
        remaining = (
            Shard(shard.index, tuple(i for i in shard.sample_ids if i not in sample_ids))
            for shard in self.shards
        )
        return Plan(tuple(shard for shard in remaining if shard.sample_ids))

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.shards)

    @property
    def num_samples(self) -> int:
        """Number of samples over all shards."""
        return sum(len(shard.sample_ids) for shard in self.shards)

    def to_parquet(self) -> bytes:
        """Write the plan as a Parquet file with one row per sample."""
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, PLAN_SCHEMA) as writer:
            for batch in _to_batches(self.shards):
                writer.write_batch(batch)
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> Plan:
        """Read what :meth:`to_parquet` wrote.

        Rows are read a batch at a time, because a plan may have many millions of samples.
        """
        indices: list[int] = []
        sample_ids: list[tuple[str, ...]] = []
        for batch in pq.ParquetFile(pa.BufferReader(content)).iter_batches(_ROWS_PER_BATCH):
            for index, ids in _shards_in(batch):
                if indices and indices[-1] == index:  # a shard that began in the batch before
                    sample_ids[-1] += ids
                else:
                    indices.append(index)
                    sample_ids.append(ids)
        return cls(tuple(map(Shard, indices, sample_ids)))


def _shards_in(batch: pa.RecordBatch) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the index and the ids of each shard in a batch whose rows are sorted by shard."""
    encoded = pc.run_end_encode(batch["shard"])
    start = 0
    for index, stop in zip(encoded.values.to_pylist(), encoded.run_ends.to_pylist(), strict=True):
        yield index, tuple(batch["sample_id"].slice(start, stop - start).to_pylist())
        start = stop


def _to_batches(shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    indices: list[int] = []
    ids: list[str] = []
    for shard in shards:
        indices += [shard.index] * len(shard.sample_ids)
        ids += shard.sample_ids
        if len(ids) >= _ROWS_PER_BATCH:
            yield pa.record_batch([indices, ids], schema=PLAN_SCHEMA)
            indices, ids = [], []
    if ids:
        yield pa.record_batch([indices, ids], schema=PLAN_SCHEMA)


def open_plan(directory: Location, make_plan: Callable[[], Plan]) -> Plan:
    """Read the stored plan of a stage; make and store it if it is missing or damaged.

    Raises:
        FatalError: if a damaged plan cannot be made again as it was.
    """
    try:
        return read_plan(directory)
    except FileNotFoundError:
        return _store(directory, make_plan())
    except DamagedFileError as error:
        return _mend(directory, make_plan, error)


def read_plan(directory: Location) -> Plan:
    """Load a stored plan.

    Raises:
        FileNotFoundError: if there is none.
        DamagedFileError: if ``plan.json`` or the file that it names is damaged.
    """
    path = directory / str(read_plan_record(directory)["file"])
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedFileError(path, "is gone") from error
    if _plan_name(content) != path.name:
        raise DamagedFileError(path, "not the bytes that were written")
    return Plan.from_parquet(content)


def read_plan_record(directory: Location) -> dict[str, Any]:
    """Read ``plan.json``: ``file``, ``num_samples`` and ``num_shards``.

    Raises:
        FileNotFoundError: if there is none.
        DamagedFileError: if it is damaged.
    """
    return read_record(directory / PLAN_NAME)


def _store(directory: Location, plan: Plan) -> Plan:
    content = plan.to_parquet()
    name = _plan_name(content)
    record = {"file": name, "num_samples": plan.num_samples, "num_shards": len(plan)}
    write_atomically(directory / name, content)
    try:
        create_exclusively(directory / PLAN_NAME, seal(record))
    except FileExistsError:  # another runner was first, perhaps with another shard size
        return read_plan(directory)
    return plan


def _mend(directory: Location, make_plan: Callable[[], Plan], error: DamagedFileError) -> Plan:
    """Make the plan again and store it, if its hash shows that it is the one that was stored."""
    plan = make_plan()
    stored_names = {name for name in names_in(directory) if name.startswith("plan-")}
    try:
        stored_names.add(str(read_plan_record(directory)["file"]))
    except DamagedFileError:
        remove(directory / PLAN_NAME)
    if _plan_name(plan.to_parquet()) not in stored_names:
        raise FatalError(
            f"{error}; the plan cannot be made again as it was: set runtime.shard_size to what it "
            "was, or remove the directory to start over"
        ) from error
    return _store(directory, plan)


def _plan_name(content: bytes) -> str:
    """Name a plan's Parquet file by the hash of its content."""
    return f"plan-{hashlib.sha256(content).hexdigest()[:32]}.parquet"
