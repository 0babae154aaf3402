"""Store state tensors: one safetensors file per shard, in the dtype that the config names.

``float8`` is e4m3 with a float32 scale for each row under ``<layer>.scale``. The scale maps the
largest absolute entry of a row to the largest number that e4m3 holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sekd.config import StateDType
from sekd.io.faults import retry

_SCALE_SUFFIX = ".scale"
_FLOAT8 = torch.float8_e4m3fn
_FLOAT8_MAX = torch.finfo(_FLOAT8).max

# Shapes: N rows, D hidden size.


def pack_states(states: Mapping[str, Tensor], dtype: StateDType) -> dict[str, Tensor]:
    """Convert states to the tensors that are stored, on the CPU.

    Args:
        states: layer name -> states [N, D], of any floating-point dtype.

    Returns:
        Layer name -> states [N, D] in ``dtype``; for float8 also ``<layer>.scale`` -> float32 [N].
    """
    if dtype != "float8":
        torch_dtype = getattr(torch, dtype)
        return {
            layer: states_ND.to("cpu", torch_dtype).contiguous()
            for layer, states_ND in states.items()
        }
    packed = {}
    for layer, states_ND in states.items():
        rows_ND = states_ND.float().cpu()
        scale_N = rows_ND.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / _FLOAT8_MAX
        packed[layer] = (rows_ND / scale_N[:, None]).to(_FLOAT8)
        packed[layer + _SCALE_SUFFIX] = scale_N
    return packed


def write_states(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the tensors of :func:`pack_states` to a safetensors file."""
    layers = ",".join(name for name in tensors if not name.endswith(_SCALE_SUFFIX))
    save_file(dict(tensors), path, metadata={"layers": layers})


class StateFile:
    """Stored states, read one row at a time or all rows at once."""

    def __init__(self, path: Path) -> None:
        self._file = retry(lambda: safe_open(path, framework="pt"), path)
        self._names = set(self._file.keys())

    @property
    def layers(self) -> list[str]:
        """Names of the layers, sorted."""
        return sorted(name for name in self._names if not name.endswith(_SCALE_SUFFIX))

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the layers, each with its states [N, D]."""
        for layer in self.layers:
            yield layer, self.states(layer)

    def states(self, layer: str) -> Tensor:
        """Read all rows [N, D] of a layer in the stored dtype; float8 comes back as float32."""
        return self._read_rows(layer, slice(None))

    def row(self, layer: str, row: int) -> Tensor:
        """Read one row [D] of a layer in the stored dtype; float8 comes back as float32."""
        return self._read_rows(layer, slice(row, row + 1))[0]

    def _read_rows(self, layer: str, rows: slice) -> Tensor:
        states_ND: Tensor = self._file.get_slice(layer)[rows]
        scale_name = layer + _SCALE_SUFFIX
        if scale_name not in self._names:
            return states_ND
        scale_N: Tensor = self._file.get_slice(scale_name)[rows]
        return states_ND.float() * scale_N[:, None]
