"""A transformers ``Trainer`` over the objective: terms are logged, and a broken loss stops it."""

from __future__ import annotations

import logging
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import (
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sekd.errors import FatalError
from sekd.stages.distill.lessons import Lessons
from sekd.stages.distill.objective import TERMS, Objective
from sekd.stages.distill.supervision import MicroBatch

logger = logging.getLogger(__name__)

_SORTED_AT_ONCE = 50
"""Global batches whose sequences are sorted by length together."""
_EXPLODED, _NUM_FIRST = 10.0, 10
"""A loss so many times the mean of so many first micro-batches has exploded."""


class ByLength(Sampler[int]):
    """Random order with sequences of like length together, so that little is padding.

    Of every 50 global batches the sequences are sorted, and the batches shuffled again. The order
    follows from the seed and the epoch, whatever the number of processes and micro-batches.
    """

    def __init__(self, lessons: Lessons, global_batch: int, seed: int) -> None:
        self._lessons, self._global_batch, self._seed = lessons, global_batch, seed
        self._lengths = lessons.lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed}:{self._lessons.epoch}")
        order = rng.sample(range(len(self)), len(self))
        size = self._global_batch
        for start in range(0, len(order), size * _SORTED_AT_ONCE):
            some = order[start : start + size * _SORTED_AT_ONCE]
            some.sort(key=self._lengths.__getitem__)  # stable: those of one length stay shuffled
            whole, rest = len(some) // size * size, len(some) % size
            batches = [some[at : at + size] for at in range(0, whole, size)]
            for batch in [*rng.sample(batches, len(batches)), some[-rest:] if rest else []]:
                yield from batch


class DistillTrainer(Trainer):
    """A ``Trainer`` whose loss is the weighted sum of the terms, each of them logged."""

    def __init__(self, objective: Objective, global_batch: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._objective = objective
        self._global_batch = global_batch
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._first_losses: list[float] = []
        # The terms are means over sequences: the Trainer is to average micro-batches itself.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        assert isinstance(self.train_dataset, Lessons)
        return ByLength(self.train_dataset, self._global_batch, self.args.seed)

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
        terms = self._objective(model, batch)
        loss = self._objective.weighted(terms)
        self._check(loss.item(), batch)
        self._count(terms, batch)
        return loss

    def _check(self, loss: float, batch: MicroBatch) -> None:
        limit = math.inf
        if len(self._first_losses) < _NUM_FIRST:
            self._first_losses.append(loss)
        else:
            limit = _EXPLODED * sum(self._first_losses) / _NUM_FIRST
        if math.isfinite(loss) and loss <= limit:
            return
        expected = f", {limit:.4g} at most was expected" if math.isfinite(limit) else ""
        raise FatalError(
            f"the loss is {loss:.4g} at step {self.state.global_step}{expected}; the samples: "
            f"{', '.join(batch.sample_ids)}. Lower distill.learning_rate, or look at them with "
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


class Lines(TrainerCallback):
    """The Trainer's log as plain lines of ours."""

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
        terms = ", ".join(
            f"{name} {float(logs[name]):.4g}" for name in ("loss", *TERMS) if name in logs
        )
        logger.info("distill: step %d/%d, %s", state.global_step, state.max_steps, terms)


class Epochs(TrainerCallback):
    """Tells the lessons which epoch begins."""

    def __init__(self, lessons: Lessons) -> None:
        self._lessons = lessons

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Another order of the options."""
        self._lessons.set_epoch(int(state.epoch or 0))


class Bar(ProgressCallback):
    """The Trainer's bar without its copies of the log."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: :class:`Lines` writes the log."""
