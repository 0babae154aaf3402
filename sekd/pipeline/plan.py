"""The plan: which sample is in which shard, fixed once and stored.

It never follows from the number of workers, so any number of them, on any day, do the same shards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.data.shards import Shard

PLAN_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Plan:
    """All shards of a stage, in order."""

    shards: tuple[Shard, ...]

    @classmethod
    def split(cls, sample_ids: Sequence[str], shard_size: int) -> Plan:
        """Consecutive shards of ``shard_size`` samples; the last may be shorter."""
        starts = range(0, len(sample_ids), shard_size)
        return cls(
            tuple(
                Shard(index, tuple(sample_ids[start : start + shard_size]))
                for index, start in enumerate(starts)
            )
        )

    def without(self, sample_ids: Collection[str]) -> Plan:
        """The same shards less these samples; a shard left empty is left out."""
        left = (
            Shard(shard.index, tuple(i for i in shard.sample_ids if i not in sample_ids))
            for shard in self.shards
        )
        return Plan(tuple(shard for shard in left if shard.sample_ids))

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.shards)

    @property
    def num_samples(self) -> int:
        """Samples over all shards."""
        return sum(len(shard.sample_ids) for shard in self.shards)

    def write(self, path: Path) -> None:
        """Store as Parquet, one row per sample."""
        rows = [(shard.index, sample_id) for shard in self.shards for sample_id in shard.sample_ids]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], []]
        temporary = path.with_suffix(".tmp")
        pq.write_table(pa.table(columns, schema=PLAN_SCHEMA), temporary)
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Load what :meth:`write` stored."""
        table = pq.read_table(path, schema=PLAN_SCHEMA)
        rows = zip(*(table[name].to_pylist() for name in PLAN_SCHEMA.names), strict=True)
        return cls(
            tuple(
                Shard(index, tuple(sample_id for _, sample_id in group))
                for index, group in groupby(rows, key=lambda row: row[0])
            )
        )
