"""Checkpoints of a training on disk: which one to go on from, and what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was written to its end, with the Trainer's state of that moment."""

    path: Path
    state: Mapping[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to train."""
        return bool(self.state["global_step"] >= self.state["max_steps"])

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """The Trainer's log since the first step, over all runs."""
        lines: Sequence[Mapping[str, Any]] = self.state["log_history"]
        return lines


def last_checkpoint(directory: Path) -> Checkpoint | None:
    """The last whole checkpoint; its state is the last file written, after those of all processes.

    What a killed process left unfinished is passed over, and written anew in time.
    """
    found = sorted(directory.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(found):
        try:
            return Checkpoint(path, json.loads((path / "trainer_state.json").read_bytes()))
        except (FileNotFoundError, ValueError):
            continue
    return None
