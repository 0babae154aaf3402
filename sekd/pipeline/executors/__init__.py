"""Executors: they decide where a stage's shards are processed, and by how many workers.

To add an executor, write its class in a module of its own, add a line to :data:`EXECUTORS`, and
add its name to ``runtime.executor`` in ``sekd/config/runtime.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from sekd.config import ShardRuntime
from sekd.errors import ConfigError
from sekd.pipeline.executors.base import Executor

EXECUTORS: Mapping[str, tuple[str, str]] = {
    "inline": ("sekd.pipeline.executors.inline", "InlineExecutor"),
    "process": ("sekd.pipeline.executors.process", "ProcessExecutor"),
    "ray": ("sekd.pipeline.executors.ray", "RayExecutor"),
}
"""Name in the config -> module and class. A module is imported when its executor is opened."""


def open_executor(runtime: ShardRuntime) -> Executor:
    """Open the executor that the settings name.

    Raises:
        ConfigError: if there are too few devices, or the executor's library is not installed.
    """
    name = runtime.executor
    module_name, class_name = EXECUTORS[name]
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"runtime.executor: {name} ({error}); pip install 'sekd[{name}]'"
        ) from error
    executor_class: type[Executor] = getattr(module, class_name)
    return executor_class.from_runtime(runtime)
