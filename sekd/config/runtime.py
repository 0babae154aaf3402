"""Settings of how a stage with shards is run; none of them changes a result."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sekd.config.base import Positive, Section


class ShardRuntime(Section):
    """Settings of how a stage with shards is run."""

    shard_size: Positive = 256
    """Number of samples in a shard, which is processed, stored and tried again as a whole. Smaller
    shards lose less work when a process dies; larger ones make fewer files. A directory keeps the
    shards that it was started with."""
    batch_size: Positive = 32
    """Number of images that go through the model together. Raise it until the GPU's memory is full.
    The vLLM engine forms its batches itself."""
    engine_args: dict[str, Any] = {}
    """Arguments of the vLLM engine that do not change its numbers, e.g.
    ``{gpu_memory_utilization: 0.85, tensor_parallel_size: 2}``. The transformers engine takes
    none."""
    max_attempts: Positive = 3
    """Number of attempts at a shard, over all runs, before it is given up. ``--retry-failed``
    grants them again."""
    max_consecutive_failures: Positive = 10
    """Number of shards that may fail one after another before the run stops, so that a broken mount
    or engine does not use up the attempts of all shards. A shard whose samples are all quarantined
    counts as well. The shards that failed last get their attempts back."""
    max_consecutive_quarantined: Positive = 100
    """Number of samples that may be quarantined one after another in a shard before the run stops,
    so that a broken mount does not set a whole dataset aside. The shard is not stored."""
    shard_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which an attempt at a shard counts as failed; ``null`` waits for ever. Set it
    where an engine may hang. The inline executor cannot interrupt a library that hangs."""
    executor: Literal["inline", "process", "ray"] = "inline"
    """Where workers run: ``inline`` is one worker in this process, ``process`` starts a process for
    each worker on this machine, ``ray`` uses the machines of a Ray cluster. Take ``process`` for
    several GPUs, or if a sample may kill its process."""
    workers: Positive = 1
    """Number of workers of the process and ray executors; each loads its own engine."""
    gpus_per_worker: Annotated[int, Field(ge=0)] = 0
    """Number of GPUs that each worker has for itself; 0 lets every worker see all of them. Set it
    whenever several workers run on GPUs."""
    address: str | None = None
    """Address of the Ray cluster, as ``ray.init`` takes it; ``null`` starts one on this
    machine."""
