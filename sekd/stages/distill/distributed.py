"""A training in several processes: the first one decides and writes, the others follow it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce

T = TypeVar("T")


def broadcast_from_main(decide: Callable[[], T]) -> T:
    """What ``decide`` returns in the first process, in all of them; the others do not call it.

    All processes have to come here. One that was started alone simply decides.
    """
    # Joins the group that torchrun or accelerate described in the environment, and makes this
    # process's GPU the current one.
    process = PartialState(cpu=not torch.cuda.is_available())
    return broadcast_object_list([decide() if process.is_main_process else None])[0]  # type: ignore[no-any-return]


def destroy_process_group() -> None:
    """Leave the group again, if there is one; nothing can be agreed on afterwards."""
    PartialState().destroy_process_group()


def uses_fsdp() -> bool:
    """Whether ``accelerate launch --use_fsdp`` is to spread the weights over the processes."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def any_rank(facts: Sequence[bool]) -> list[bool]:
    """Of each fact, whether it is one in any process; all of them have to come here."""
    counts = torch.tensor(facts, dtype=torch.int64, device=PartialState().device)
    return [bool(count) for count in reduce(counts, reduction="sum").tolist()]
