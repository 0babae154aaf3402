"""Run ``python -m sekd`` with FSDP on a CPU.

accelerate shards weights on GPUs only: on a CPU its state ignores the FSDP plugin. With this patch
the code that a GPU would run is run over gloo. DTensor's caches keep the process group, and with it
gloo's threads. One of them may still hold a tensor of the last broadcast when the interpreter ends,
and then aborts it. So this program leaves out the interpreter's own end.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

original_init = AcceleratorState.__init__


def init_with_fsdp(
    self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any
) -> None:
    original_init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin


AcceleratorState.__init__ = init_with_fsdp
try:
    runpy.run_module("sekd", run_name="__main__")
except SystemExit as end:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(end.code if isinstance(end.code, int) else 1)
