"""Callbacks of the Trainer: log lines, the epoch of the dataset, curves and the progress bar."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from transformers import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sekd.stages.distill.checkpoints import TrainingInputs, record_checkpoint
from sekd.stages.distill.curves import write_curves
from sekd.stages.distill.dataset import DistillDataset
from sekd.stages.distill.distributed import broadcast_from_main, wait_for_everyone
from sekd.stages.distill.terms import TERMS

logger = logging.getLogger(__name__)


class LogCallback(TrainerCallback):
    """Writes the Trainer's log as one plain line for each entry, with rate and remaining time."""

    def __init__(self, global_batch: int) -> None:
        self._global_batch = global_batch
        self._started, self._first_step = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; a resumed run does not count the steps before it."""
        self._started, self._first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log one line."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        num_steps, seconds = state.global_step - self._first_step, time.monotonic() - self._started
        names = ("loss", *(term.name for term in TERMS))
        logger.info(
            "distill: step %d/%d, %.1f sequences/s, %.0f s left; %s",
            state.global_step,
            state.max_steps,
            num_steps * self._global_batch / seconds,
            (state.max_steps - state.global_step) * seconds / num_steps,
            ", ".join(f"{name} {float(logs[name]):.4g}" for name in names if name in logs),
        )


class SetEpochCallback(TrainerCallback):
    """Sets the dataset's epoch before the DataLoader's workers get their copy of the dataset."""

    def __init__(self, dataset: DistillDataset) -> None:
        self._dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch, and with it the order of the options."""
        self._dataset.set_epoch(int(state.epoch or 0))


class CheckpointCurvesCallback(TrainerCallback):
    """Logs an entry before each checkpoint, and writes the curves after it.

    Because of that entry no running mean is open when a checkpoint is saved, so that a resumed run
    logs the same as an uninterrupted one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log now if a checkpoint follows."""
        control.should_log |= control.should_save

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the curves of all entries so far."""
        if state.is_world_process_zero:
            write_curves(state.log_history, self._directory)


class RecordCheckpointCallback(TrainerCallback):
    """Completes each checkpoint with its record when all processes have written their files."""

    def __init__(self, directory: Path, inputs: TrainingInputs) -> None:
        self._directory, self._inputs = directory, inputs

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the record."""
        path = self._directory / f"checkpoint-{state.global_step}"
        wait_for_everyone()
        broadcast_from_main(lambda: record_checkpoint(path, self._inputs))


class ProgressBarCallback(ProgressCallback):
    """The Trainer's progress bar without its log entries, which :class:`LogCallback` writes."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Clear the bar, so that the log line has the terminal's line to itself."""
        if self.training_bar is not None:
            self.training_bar.clear()
