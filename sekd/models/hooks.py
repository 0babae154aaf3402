"""Hooks that keep states of a forward pass at chosen positions, and logits there alone.

No tensor of the size sequence x vocabulary is ever made.
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
"""Layer name of the states that go into ``lm_head``, behind the decoder's last norm."""

# Shapes: B batch, L padded length, N positions picked over the batch, D hidden size, V vocabulary.


def layer_modules(
    model: PreTrainedModel, layers: Sequence[str], spec: ModelSpec, config_key: str
) -> dict[str, nn.Module]:
    """Find the decoder blocks of these layers, by resolved name.

    ``middle`` becomes ``block_<i>``; ``final_norm`` is left out, because it is no block.

    Args:
        config_key: the config key that names the layers, for error messages.

    Raises:
        ConfigError: if there is no such layer; the message lists those that exist.
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
                f"{config_key}: no {layer!r} in {type(model).__name__}; there are block_0 to "
                f"block_{len(blocks) - 1} ({path}), middle and {FINAL_NORM}"
            )
        resolved[name] = named[name]
    return resolved


@contextmanager
def capture_states(
    blocks: Mapping[str, nn.Module], rows_N: Tensor, positions_N: Tensor
) -> Iterator[dict[str, Tensor]]:
    """Capture each block's output at these positions.

    The states are picked after the model ran: under activation checkpointing a block runs again in
    the backward pass, and must then do exactly what it did before.

    Args:
        blocks: decoder blocks by name.
        rows_N: int64, row of each position in the batch.
        positions_N: int64, index of each position in its padded row.

    Yields:
        A dictionary that is filled when the context is left: block name -> states [N, D] in the
        model's dtype.
    """
    outputs: dict[str, Tensor] = {}
    states: dict[str, Tensor] = {}

    def keep_output(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            outputs[name] = output[0] if isinstance(output, tuple) else output

        return hook

    with ExitStack() as stack:
        for name, block in blocks.items():
            stack.callback(block.register_forward_hook(keep_output(name)).remove)
        yield states
    for name, hidden in outputs.items():
        states[name] = _states_at(hidden, rows_N, positions_N)


@contextmanager
def logits_at(
    lm_head: nn.Module,
    rows_N: Tensor,
    positions_N: Tensor,
    extra_states_MD: Tensor | None = None,
) -> Iterator[list[Tensor]]:
    """Let ``lm_head`` see these positions alone, so that logits are [N, V] and not [B, L, V].

    Args:
        rows_N: int64, row of each position in the batch.
        positions_N: int64, index of each position in its padded row.
        extra_states_MD: further states that ``lm_head`` reads in the same call; logits are then
            [N + M, V]. In this way whatever the model's forward does to the logits (sharding,
            quantisation, scaling) happens to these, too.

    Yields:
        A list that receives the states [N, D] that went into ``lm_head``, in the model's dtype.
    """
    head_inputs: list[Tensor] = []

    def select(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states = _states_at(args[0], rows_N, positions_N)
        head_inputs.append(states)
        if extra_states_MD is not None:
            states = torch.cat([states, extra_states_MD.to(states.device, states.dtype)])
        return (states, *args[1:])

    handle = lm_head.register_forward_pre_hook(select)
    try:
        yield head_inputs
    finally:
        handle.remove()


@contextmanager
def capture_final_states(
    lm_head: nn.Module, rows_N: Tensor, positions_N: Tensor
) -> Iterator[dict[str, Tensor]]:
    """Capture the states that would go into ``lm_head`` at these positions; compute no logits.

    :class:`~sekd.models.head.LMHead` computes distributions from them.

    Args:
        rows_N: int64, row of each position in the batch.
        positions_N: int64, index of each position in its padded row.

    Yields:
        A dictionary that receives :data:`FINAL_NORM` -> states [N, D] in the model's dtype.
    """
    states: dict[str, Tensor] = {}

    def select(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states[FINAL_NORM] = _states_at(args[0], rows_N, positions_N)
        no_rows = states[FINAL_NORM][:0]
        return (no_rows, *args[1:])

    handle = lm_head.register_forward_pre_hook(select)
    try:
        yield states
    finally:
        handle.remove()


def _states_at(hidden_BLD: Tensor, rows_N: Tensor, positions_N: Tensor) -> Tensor:
    """Pick the states [N, D] at these positions."""
    return hidden_BLD[rows_N.to(hidden_BLD.device), positions_N.to(hidden_BLD.device)]
