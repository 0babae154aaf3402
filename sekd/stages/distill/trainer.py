"""A transformers ``Trainer`` over the objective: terms are logged, and a broken loss stops it."""

from __future__ import annotations

import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.data import Sampler
from transformers import (
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sekd.errors import FatalError, SekdError
from sekd.stages.distill.collate import MicroBatch
from sekd.stages.distill.curves import write_curves
from sekd.stages.distill.dataset import DistillDataset
from sekd.stages.distill.objective import TERMS, Objective

logger = logging.getLogger(__name__)

_SORTED_AT_ONCE = 50
"""Global batches whose sequences are sorted by length together."""
_EXPLODED = 10.0
"""A micro-batch's loss has exploded at so many times the mean of the first step, or of 1 if that
is less: a student that goes on from a good one begins near zero."""


class LengthGroupedSampler(Sampler[int]):
    """Random order with sequences of like length together, so that little is padding.

    Of every 50 global batches the sequences are sorted, and the batches shuffled again. Within one,
    those of a kind are together, too, because a micro-batch takes forward passes for each kind. The
    order follows from the seed and the epoch, whatever the number of processes and micro-batches.
    An epoch is made of whole global batches: the last one is filled up with sequences that were
    there before, so that every step is a mean over as many, in micro-batches of one size.
    """

    def __init__(self, lessons: DistillDataset, global_batch: int, seed: int) -> None:
        self._lessons, self._global_batch, self._seed = lessons, global_batch, seed
        self._lengths, self._are_replayed = lessons.lengths, lessons.are_replayed

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self._global_batch) * self._global_batch

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed}:{self._lessons.epoch}")
        num_lessons, size = len(self._lengths), self._global_batch
        shuffled = rng.sample(range(num_lessons), num_lessons)
        order = list(islice(cycle(shuffled), len(self)))
        for start in range(0, len(order), size * _SORTED_AT_ONCE):
            some = order[start : start + size * _SORTED_AT_ONCE]
            some.sort(key=self._lengths.__getitem__)  # stable: those of one length stay shuffled
            batches = [some[at : at + size] for at in range(0, len(some), size)]
            for batch in rng.sample(batches, len(batches)):
                yield from sorted(batch, key=self._are_replayed.__getitem__)


class DistillTrainer(Trainer):
    """A ``Trainer`` whose loss is the weighted sum of the terms, each of them logged."""

    def __init__(self, objective: Objective, global_batch: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._objective = objective
        self._global_batch = global_batch
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._in_this_step: list[str] = []
        # The terms are means over sequences: the Trainer is to average micro-batches itself.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        assert isinstance(self.train_dataset, DistillDataset)
        return LengthGroupedSampler(self.train_dataset, self._global_batch, self.args.seed)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one step.

        Raises:
            SekdError: what went wrong with a sample, in its own words if it was in a worker.
        """
        try:
            return super().get_batch_samples(*args, **kwargs)
        except SekdError as error:
            # PyTorch brings a worker's error with the traceback as its text, the error at its end.
            *_, last = lines = str(error).splitlines()
            if len(lines) == 1:
                raise
            raise type(error)(last.partition(": ")[2]) from error

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss of one micro-batch.

        Raises:
            FatalError: if it is not finite or has exploded; the samples are named.
        """
        batch: MicroBatch = inputs["batch"]
        self._in_this_step += batch.sample_ids
        terms = self._objective(model, batch)
        loss = self._objective.weighted(terms)
        self._check(loss.item(), batch)
        self._count(terms, batch)
        return loss

    def _check(self, loss: float, batch: MicroBatch) -> None:
        """Hold the loss against that of the first step, which a resumed run knows from its log."""
        first = next((line["loss"] for line in self.state.log_history), math.inf)
        limit = _EXPLODED * max(first, 1.0)
        if math.isfinite(loss) and loss <= limit:
            return
        expected = f", {limit:.4g} at most was expected" if math.isfinite(limit) else ""
        raise FatalError(self._stopped(f"the loss is {loss:.4g}", expected, batch.sample_ids))

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip, right before the optimizer's step.

        Raises:
            FatalError: if the gradient is not finite; the samples of all processes are named.
        """
        norm = super()._clip_grad_norm(model)
        if not math.isfinite(norm):  # in one process as in all
            sample_ids = gather_object(self._in_this_step)
            raise FatalError(self._stopped(f"the gradient's norm is {norm:.4g}", "", sample_ids))
        self._in_this_step.clear()
        return norm

    def _stopped(self, what: str, expected: str, sample_ids: Sequence[str]) -> str:
        return (
            f"{what} at step {self.state.global_step}{expected}; the samples: "
            f"{', '.join(sample_ids)}. Lower distill.learning_rate, or look at them with "
            "sekd inspect"
        )

    def _count(self, terms: dict[str, Tensor], batch: MicroBatch) -> None:
        """Sum up each term over the sequences of its kind."""
        num_all = len(batch.sample_ids)
        for name, term in terms.items():
            part = batch.replay if name == "replay" else batch.joint
            assert part is not None
            self._sums[name] += term.item() * num_all
            self._counts[name] += part.num_sequences

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of the terms since the last line, over all processes."""
        if "loss" in logs:
            mine = torch.tensor([[self._sums[name], self._counts[name]] for name in TERMS])
            sums = self.accelerator.reduce(mine.to(self.args.device)).tolist()
            logs |= {
                name: round(total / count, 5)
                for name, (total, count) in zip(TERMS, sums, strict=True)
                if count
            }
            self._sums.clear()
            self._counts.clear()
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """A plain PEFT adapter, whole however the weights are spread over the processes."""
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=True
        )
        weights = get_model_state_dict(self.model_wrapped, options=options)
        if self.args.should_save:
            self.accelerator.unwrap_model(self.model).save_pretrained(
                output_dir, state_dict=weights
            )

    def _save_rng_state(self, output_dir: str) -> None:
        """The last file of every process; the first one then writes the one that makes it whole."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()


class LogCallback(TrainerCallback):
    """The Trainer's log as plain lines of ours, with rate and time left."""

    def __init__(self, global_batch: int) -> None:
        self._global_batch = global_batch
        self._started, self._first_step = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The rate is this run's, not that of the one it goes on from."""
        self._started, self._first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """One line."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        steps, seconds = state.global_step - self._first_step, time.monotonic() - self._started
        terms = ", ".join(
            f"{name} {float(logs[name]):.4g}" for name in ("loss", *TERMS) if name in logs
        )
        logger.info(
            "distill: step %d/%d, %.1f sequences/s, %.0f s left; %s",
            *(state.global_step, state.max_steps, steps * self._global_batch / seconds),
            *((state.max_steps - state.global_step) * seconds / steps, terms),
        )


class SetEpochCallback(TrainerCallback):
    """Tells the lessons which epoch begins, before workers get their copy of them."""

    def __init__(self, lessons: DistillDataset) -> None:
        self._lessons = lessons

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Another order of the options."""
        self._lessons.set_epoch(int(state.epoch or 0))


class CheckpointCurvesCallback(TrainerCallback):
    """What goes with each checkpoint: a line of the log before it, the curves so far after it.

    With the line, no mean is under way in a checkpoint: a resumed run logs what a whole one does.
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
        """Draw what was logged so far."""
        if state.is_world_process_zero:
            write_curves(state.log_history, self._directory)


class ProgressBarCallback(ProgressCallback):
    """The Trainer's bar, without its copies of the log: :class:`Lines` writes that."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Make room for the line that follows."""
        if self.training_bar is not None:
            self.training_bar.clear()
