"""State tensors on disk: one safetensors file per shard, in the dtype that the config asks for.

``float8`` is e4m3 with a float32 scale for each row under ``<layer>.scale``, so that the largest
entry of a row is the largest that e4m3 holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sekd.config import StateDType

_SCALE = ".scale"
_FLOAT8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FLOAT8).max

# Shapes: N rows, D hidden size.


def pack(states: Mapping[str, Tensor], dtype: StateDType) -> dict[str, Tensor]:
    """Layer name -> states [N, D], as the tensors that are stored, on the CPU."""
    if dtype != "float8":
        kind = getattr(torch, dtype)
        return {name: state.to("cpu", kind).contiguous() for name, state in states.items()}
    packed = {}
    for name, state in states.items():
        rows_ND = state.float().cpu()
        scale_N = rows_ND.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST
        packed[name] = (rows_ND / scale_N[:, None]).to(_FLOAT8)
        packed[name + _SCALE] = scale_N
    return packed


def write_states(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write packed tensors."""
    layers = ",".join(name for name in tensors if not name.endswith(_SCALE))
    save_file(dict(tensors), path, metadata={"layers": layers})


class StateFile:
    """Stored states, read a row at a time or all at once."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")
        self._names = set(self._file.keys())

    @property
    def layers(self) -> list[str]:
        """Names of the layers."""
        return sorted(name for name in self._names if not name.endswith(_SCALE))

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Every layer with its states [N, D]."""
        for layer in self.layers:
            yield layer, self.states(layer)

    def states(self, layer: str) -> Tensor:
        """All rows [N, D]; float8 comes back as float32."""
        return self._read(layer, slice(None))

    def row(self, layer: str, row: int) -> Tensor:
        """One row [D]."""
        return self._read(layer, slice(row, row + 1))[0]

    def _read(self, layer: str, rows: slice) -> Tensor:
        states_ND: Tensor = self._file.get_slice(layer)[rows]
        if layer + _SCALE not in self._names:
            return states_ND
        return states_ND.float() * self._file.get_slice(layer + _SCALE)[rows][:, None]
