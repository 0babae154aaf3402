"""What is kept of a forward pass, by hooks: states at chosen positions, and logits there alone.

Nothing of the size sequence x vocabulary is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sekd.config import ModelSpec
from sekd.errors import ConfigError
from sekd.models import loading

FINAL_NORM = "final_norm"
"""Name of the states that go into ``lm_head``, behind the decoder's last norm."""

# Shapes: B batch, L padded length, N positions picked over the batch, D hidden size, V vocabulary.


def layer_modules(
    model: PreTrainedModel, layers: Sequence[str], spec: ModelSpec, asked_by: str
) -> dict[str, nn.Module]:
    """Block modules by resolved name; ``middle`` becomes ``block_<i>``, ``final_norm`` is left out.

    Raises:
        ConfigError: if there is no such layer; the message says which there are, and ``asked_by``,
            the key that names it.
    """
    path, blocks = loading.decoder_blocks(model, spec.decoder_blocks)
    named = {f"block_{index}": block for index, block in enumerate(blocks)}
    resolved: dict[str, nn.Module] = {}
    for layer in layers:
        name = f"block_{len(blocks) // 2}" if layer == "middle" else layer
        if name == FINAL_NORM:
            continue
        if name not in named:
            raise ConfigError(
                f"{asked_by}: no {layer!r} in {type(model).__name__}; there are block_0 to "
                f"block_{len(blocks) - 1} ({path}), middle and {FINAL_NORM}"
            )
        resolved[name] = named[name]
    return resolved


@contextmanager
def capture_states(
    blocks: Mapping[str, nn.Module], rows_N: Tensor, positions_N: Tensor
) -> Iterator[dict[str, Tensor]]:
    """Each block's output [N, D] at these positions, there once the context is left.

    Rows are taken out after the model ran: under activation checkpointing a block runs again in the
    backward pass, and must then do exactly what it did before.
    """
    outputs: dict[str, Tensor] = {}
    states: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            outputs[name] = output[0] if isinstance(output, tuple) else output

        return hook

    with ExitStack() as stack:
        for name, block in blocks.items():
            stack.callback(block.register_forward_hook(keep(name)).remove)
        yield states
    for name, hidden in outputs.items():
        states[name] = _picked(hidden, rows_N, positions_N)


@contextmanager
def logits_at(
    lm_head: nn.Module, rows_N: Tensor, positions_N: Tensor, more_MD: Tensor | None = None
) -> Iterator[list[Tensor]]:
    """Let ``lm_head`` see these positions alone, so that logits are [N, V] and not [B, L, V].

    Args:
        more_MD: further states that ``lm_head`` is to read in the same call; logits are then
            [N + M, V]. Within the model's own forward whatever shards, quantises or scales the
            output is done to them, too.

    Yields:
        A list that receives the states [N, D] that went into ``lm_head``.
    """
    seen: list[Tensor] = []

    def gather(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        picked = _picked(args[0], rows_N, positions_N)
        seen.append(picked)
        if more_MD is not None:
            picked = torch.cat([picked, more_MD.to(picked.device, picked.dtype)])
        return (picked, *args[1:])

    handle = lm_head.register_forward_pre_hook(gather)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def capture_final_states(
    lm_head: nn.Module, rows_N: Tensor, positions_N: Tensor
) -> Iterator[dict[str, Tensor]]:
    """The states [N, D] that would go into ``lm_head``, under :data:`FINAL_NORM`; no logits at all.

    See :class:`~sekd.models.head.Head` for what they say.
    """
    states: dict[str, Tensor] = {}

    def gather(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        picked = _picked(args[0], rows_N, positions_N)
        states[FINAL_NORM] = picked
        return (picked[:0], *args[1:])

    handle = lm_head.register_forward_pre_hook(gather)
    try:
        yield states
    finally:
        handle.remove()


def _picked(hidden_BLD: Tensor, rows_N: Tensor, positions_N: Tensor) -> Tensor:
    """The states [N, D] at these positions."""
    return hidden_BLD[rows_N.to(hidden_BLD.device), positions_N.to(hidden_BLD.device)]
