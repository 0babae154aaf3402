"""Parquet in memory is read by one thread, which is not there when the process ends."""

from __future__ import annotations

import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sekd.io.parquet_bytes import parquet_batches

THREADS = """
import io, psutil
import pyarrow as pa
import pyarrow.parquet as pq
from sekd.io.parquet_bytes import parquet_batches
buffer = io.BytesIO()
columns = {name: [name] * 1000 for name in "abcdefgh"}
pq.write_table(pa.table(columns), buffer, row_group_size=100)
before = psutil.Process().num_threads()
assert sum(map(len, parquet_batches(buffer.getvalue()))) == 1000
print(psutil.Process().num_threads() - before)
"""
"""A thread of Arrow that holds Python's bytes when Python ends aborts the process."""


def written(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_reading_starts_no_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 0


def test_what_was_written_is_read_again() -> None:
    table = pa.table({"id": ["a", "b"], "number": [1, None], "levels": [[1], []]})
    content = written(table)
    assert pa.Table.from_batches(parquet_batches(content)) == table
    assert pa.Table.from_batches(parquet_batches(content, ["number"])) == table.select(["number"])


def test_what_is_no_parquet_is_refused() -> None:
    content = written(pa.table({"id": ["a" * 1000]}))
    for damaged in (b"", content[:-20], content[20:]):
        with pytest.raises((OSError, ValueError)):
            list(parquet_batches(damaged))
