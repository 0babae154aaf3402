"""The checkpoints of a training on disk: which is the last complete one, and its state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        state: the content of its ``trainer_state.json``.
    """

    path: Path
    state: Mapping[str, Any]

    @property
    def is_final(self) -> bool:
        """Tell whether the training has taken its last step."""
        return bool(self.state["global_step"] >= self.state["max_steps"])

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """The Trainer's log since the first step, including that of earlier, stopped runs."""
        entries: Sequence[Mapping[str, Any]] = self.state["log_history"]
        return entries


def last_checkpoint(directory: Path) -> Checkpoint | None:
    """Return the last complete checkpoint, or ``None``.

    A checkpoint is complete if its ``trainer_state.json`` can be read, because that file is written
    last, after the files of all processes. A checkpoint that a killed process left incomplete is
    skipped; the resumed training writes it again.
    """
    paths = sorted(directory.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(paths):
        try:
            return Checkpoint(path, json.loads((path / "trainer_state.json").read_bytes()))
        except (FileNotFoundError, ValueError):
            continue
    return None
