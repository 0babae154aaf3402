"""``python -m sekd``, with FSDP on a CPU.

accelerate shards on GPUs alone: on a CPU its state ignores the plugin that it has made. All else is
what a GPU would run, over gloo.
"""

from __future__ import annotations

import runpy
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

begin = AcceleratorState.__init__


def begin_sharded(
    self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any
) -> None:
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin


AcceleratorState.__init__ = begin_sharded
runpy.run_module("sekd", run_name="__main__")
