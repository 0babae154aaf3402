"""Executors: where and how many workers do a stage's shards."""

from __future__ import annotations

from sekd.config import ShardRuntime
from sekd.errors import ConfigError
from sekd.pipeline.executors.inline import InlineExecutor
from sekd.pipeline.executors.process import ProcessExecutor
from sekd.pipeline.executors.protocol import Executor


def open_executor(runtime: ShardRuntime) -> Executor:
    """The executor of a config.

    Raises:
        ConfigError: if it cannot be had: too few devices, or Ray is not installed.
    """
    if runtime.executor == "ray":
        try:
            from sekd.pipeline.executors.ray import RayExecutor
        except ImportError as error:
            raise ConfigError(
                f"runtime.executor: ray ({error}); pip install 'sekd[ray]'"
            ) from error
        return RayExecutor(runtime.workers, runtime.gpus_per_worker, runtime.address)
    if runtime.executor == "process":
        return ProcessExecutor(runtime.workers, runtime.gpus_per_worker)
    return InlineExecutor()
