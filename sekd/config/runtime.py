"""How a stage with shards is carried out; no setting here changes a number."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sekd.config.base import Positive, Section


class ShardRuntime(Section):
    """How a stage with shards is carried out."""

    shard_size: Positive = 256
    """Samples per shard. The stored plan of a directory wins over this."""
    batch_size: Positive = 32
    """Images that go through the model together."""
    engine_args: dict[str, Any] = {}
    """Arguments of the engine that do not change its numbers, e.g. ``tensor_parallel_size``."""
    max_attempts: Positive = 3
    """Attempts at a shard, over all runs, before it is given up."""
    shard_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which an attempt at a shard is given up."""
    executor: Literal["inline", "process", "ray"] = "inline"
    """One worker in this process, a process for each on this machine, or those of a Ray cluster."""
    workers: Positive = 1
    """Workers, an engine each, of the process and ray executors."""
    gpus_per_worker: Annotated[int, Field(ge=0)] = 0
    """Devices that each worker has to itself; 0 leaves what it sees as it is."""
    address: str | None = None
    """Of the Ray cluster, as ``ray.init`` takes it; without one a cluster is started here."""
