"""The checkpoints of a training on disk: which is the last one that is whole, and its state."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sekd.io.artefacts import Artefact, record_files
from sekd.io.files import read_bytes, remove, sizes_below
from sekd.io.records import DamagedFileError

logger = logging.getLogger(__name__)

_RECORD = "checkpoint"
"""Name of a checkpoint's record, which is written into its directory when all else is there."""
_NUM_KEPT = 2
"""The last checkpoint, and the one before it in case that the last one is damaged."""


@dataclass(frozen=True)
class TrainingInputs:
    """What a training reads.

    Attributes:
        hashes: name -> hash; records of checkpoints and of the adapter repeat them.
        check: raises an error if a file is no longer the one that was hashed.
        labels: tables of the descent of which open naming learns; see :class:`DistillDataset`.
    """

    hashes: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[], None] = lambda: None
    labels: Sequence[Path] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole.

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


def record_checkpoint(path: Path, inputs: TrainingInputs) -> None:
    """Complete a checkpoint whose files are written, with a record of them; remove the oldest ones.

    Raises:
        ShardError: if a file that was trained on has changed since.
    """
    inputs.check()
    names = [name for name in sizes_below(path) if not name.endswith(".record.json")]
    record_files(path, path, _RECORD, sorted(names), inputs.hashes)
    for old in checkpoint_paths(path.parent)[_NUM_KEPT:]:
        remove(old)


def last_checkpoint(directory: Path, inputs: TrainingInputs) -> Checkpoint | None:
    """Return the last checkpoint that is whole, or ``None``; later ones are removed.

    A checkpoint is whole if every file of it is what its record says, and was made from the same
    inputs. The record is written last, so a checkpoint that a killed process left incomplete has
    none.
    """
    for path in checkpoint_paths(directory):
        try:
            artefact = Artefact.read(path, _RECORD)
            if artefact is not None and dict(artefact.inputs) == dict(inputs.hashes):
                artefact.check()
                state = json.loads(read_bytes(path / "trainer_state.json"))
                return Checkpoint(path, state)
            reason = f"{path} is not complete"
            if artefact is not None:
                reason = f"{path} was made from something else than there is now"
        except DamagedFileError as error:
            reason = str(error)
        logger.warning("distill: %s; the checkpoint before it counts, if there is one", reason)
        remove(path)
    return None


def checkpoint_paths(directory: Path) -> list[Path]:
    """List the directories of checkpoints, the last one first."""
    paths = [path for path in directory.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(paths, key=lambda path: int(path.name[11:]), reverse=True)
