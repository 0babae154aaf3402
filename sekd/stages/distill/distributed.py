"""Training in several processes: the main process decides and writes, the others follow it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce

from sekd.errors import ConfigError

T = TypeVar("T")


def broadcast_from_main(decide: Callable[[], T]) -> T:
    """Call ``decide`` in the main process alone, and return its result in every process.

    Every process must call this. A single process calls ``decide`` and returns its result.

    Raises:
        ConfigError: in every process, if ``decide`` raises one.
    """
    # This joins the process group that torchrun or accelerate described in the environment, and
    # makes this process's GPU the current one.
    state = PartialState(cpu=not torch.cuda.is_available())
    decision: T | ConfigError | None = None
    if state.is_main_process:
        try:
            decision = decide()
        except ConfigError as error:
            decision = error
    (decision,) = broadcast_object_list([decision])
    if isinstance(decision, ConfigError):
        raise decision
    return decision  # type: ignore[return-value]


def wait_for_everyone() -> None:
    """Wait until every process is here. Every process must call this."""
    PartialState().wait_for_everyone()


def destroy_process_group() -> None:
    """Leave the process group, if there is one; no collective can run afterwards."""
    PartialState().destroy_process_group()
    # The group's threads end with the last reference to it, and a trainer holds one in a cycle.
    # Threads that are left when the interpreter ends may abort it ("terminate called").
    gc.collect()


def uses_fsdp() -> bool:
    """Tell whether ``accelerate launch --use_fsdp`` asks to shard the weights over processes."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def any_rank(conditions: Sequence[bool]) -> list[bool]:
    """Return, for each condition, whether it holds in any process. Every process must call this."""
    counts = torch.tensor(conditions, dtype=torch.int64, device=PartialState().device)
    return [bool(count) for count in reduce(counts, reduction="sum").tolist()]
