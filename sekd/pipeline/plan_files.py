"""The Parquet files of a plan: one row for each sample of the shards that a revision added.

A file is named by the number of its revision and the hash of its content.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sekd.data.shards import Shard
from sekd.io.columns import to_texts
from sekd.io.files import read_bytes
from sekd.io.locations import Location
from sekd.io.parquet_bytes import parquet_batches
from sekd.io.records import DamagedFileError
from sekd.pipeline.inputs import MARKS, Inputs, NewShard

_TEXT = pa.dictionary(pa.int32(), pa.string())
PLAN_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("key", _TEXT, nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        *(pa.field(name, _TEXT if name == "label" else pa.int64()) for name in MARKS),
    ]
)
_ROWS_PER_BATCH = 1 << 18
_SHARDS_FILE = re.compile(r"plan-\d{5}-[0-9a-f]{32}\.parquet")


def shards_file_name(number: int, content: bytes) -> str:
    """Name the Parquet file of a revision by the hash of its content."""
    return f"plan-{number:05d}-{hashlib.sha256(content).hexdigest()[:32]}.parquet"


def is_shards_file(name: str) -> bool:
    """Tell whether a file of this name holds the shards that a revision added."""
    return _SHARDS_FILE.fullmatch(name) is not None


def read_shards(directory: Location, revision: int, file: str | None) -> list[Shard]:
    """Read the shards that a revision added, a batch at a time: there may be millions of samples.

    Raises:
        DamagedFileError: if their file is damaged or gone.
    """
    content = read_shards_file(directory, revision, file)
    if content is None:
        return []
    shards: list[Shard] = []
    for batch in parquet_batches(content, ["shard", "key", "sample_id"]):
        for shard in _shards_in(batch):
            if shards and shards[-1].index == shard.index:  # it began in the batch before
                sample_ids = shards.pop().sample_ids + shard.sample_ids
                shards.append(Shard(shard.index, sample_ids, shard.key))
            else:
                shards.append(shard)
    return shards


def read_shards_file(directory: Location, revision: int, file: str | None) -> bytes | None:
    """Read the Parquet file of a revision; ``None`` if it added no shard.

    Raises:
        DamagedFileError: if the file is damaged or gone.
    """
    if file is None:
        return None
    path = directory / file
    try:
        content = read_bytes(path)
    except FileNotFoundError as error:
        raise DamagedFileError(path, "is gone") from error
    if shards_file_name(revision, content) != path.name:
        raise DamagedFileError(path, "not the bytes that were written")
    return content


def _shards_in(batch: pa.RecordBatch) -> Iterator[Shard]:
    """Yield each shard of a batch whose rows are sorted by shard."""
    encoded = pc.run_end_encode(batch["shard"])
    stops = encoded.run_ends.to_numpy()
    starts = np.concatenate([[0], stops[:-1]])
    keys = to_texts(batch["key"].take(pa.array(starts)).cast(pa.string()))
    sample_ids = to_texts(batch["sample_id"])
    rows = zip(encoded.values.to_pylist(), starts.tolist(), stops.tolist(), keys, strict=True)
    for index, start, stop, key in rows:
        yield Shard(index, tuple(sample_ids[start:stop]), key)


def shards_to_parquet(shards: Sequence[NewShard], first: int, inputs: Inputs) -> bytes:
    """Write shards with one row for each sample; the first one has the number ``first``."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, PLAN_SCHEMA) as writer:
        for batch in _to_batches(shards, first, inputs):
            writer.write_batch(batch)
    return buffer.getvalue()


def _to_batches(shards: Sequence[NewShard], first: int, inputs: Inputs) -> Iterator[pa.RecordBatch]:
    columns: Mapping[str, list[Any]] = {name: [] for name in PLAN_SCHEMA.names}
    for number, shard in enumerate(shards, first):
        num_samples = len(shard.sample_ids)
        columns["shard"].extend([number] * num_samples)
        columns["key"].extend([shard.key] * num_samples)
        columns["sample_id"].extend(shard.sample_ids)
        for name, values in inputs.marks(shard).items():
            columns[name].extend(values)
        if len(columns["shard"]) >= _ROWS_PER_BATCH:
            yield pa.RecordBatch.from_pydict(columns, schema=PLAN_SCHEMA)
            columns = {name: [] for name in PLAN_SCHEMA.names}
    if columns["shard"]:
        yield pa.RecordBatch.from_pydict(columns, schema=PLAN_SCHEMA)
