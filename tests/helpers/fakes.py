"""A worker without a model, which worker processes can import by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.errors import FatalError, ShardError


@dataclass(frozen=True)
class Fake:
    """Opens a worker that writes a Parquet file and a text file for each shard.

    It quarantines the last sample of each shard.

    Attributes:
        faults: shard -> "fail", "fatal", "kill" (SIGKILL to its own process) or "hang".
        pause: seconds that each sample takes.
        load_seconds: seconds that opening the worker takes.
    """

    faults: Mapping[int, str] = field(default_factory=dict)
    pause: float = 0.0
    load_seconds: float = 0.0

    def __call__(self) -> FakeWorker:
        time.sleep(self.load_seconds)
        return FakeWorker(self)


class FakeWorker:
    def __init__(self, spec: Fake) -> None:
        self.spec = spec

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        *usable, last = shard.sample_ids
        for _ in shard.sample_ids:
            time.sleep(self.spec.pause)
            advance(1)
        path = folder / "answers.parquet"
        pq.write_table(pa.table({"sample_id": usable, "pid": [0] * len(usable)}), path)
        fault = self.spec.faults.get(shard.index)
        if fault == "fail":
            raise ShardError("no luck")
        if fault == "fatal":
            raise FatalError("the engine is dead")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(3600)
        (folder / "notes.txt").write_text(f"shard {shard.index}\n")
        return ShardResult(
            {"answers": path, "notes": folder / "notes.txt"},
            len(usable),
            [Quarantined(last, "blurred")],
            {"index": shard.index, "devices": os.environ.get("CUDA_VISIBLE_DEVICES")},
        )

    def close(self) -> None:
        pass
