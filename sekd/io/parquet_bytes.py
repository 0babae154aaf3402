"""Read Parquet that is in memory already, because its hash was checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_PER_BATCH = 1 << 18


def parquet_batches(
    content: bytes, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a Parquet file a batch at a time: it may have millions of rows.

    This thread reads alone. A thread of Arrow that is the last one to let go of Python's bytes asks
    for the interpreter; if that is about to end, it kills the thread within a destructor of C++,
    and the process aborts ("terminate called without an active exception") after its work is done.

    Raises:
        OSError, ValueError: if it is no Parquet file (Arrow's exceptions are of these kinds).
    """
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    yield from file.iter_batches(_ROWS_PER_BATCH, columns=columns, use_threads=False)
