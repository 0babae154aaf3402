"""A transformers ``Trainer`` for the objective: it logs every term and stops at a broken loss."""

from __future__ import annotations

import logging
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.data import Sampler
from transformers import Trainer

from sekd.errors import ConfigError, FatalError, SekdError, in_one_line
from sekd.models.batching import ImageRefusedError
from sekd.models.refusals import is_out_of_memory
from sekd.stages.distill.collate import DistillCollator, MicroBatch
from sekd.stages.distill.dataset import DistillDataset
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.terms import TERMS

logger = logging.getLogger(__name__)

_MEGABATCH = 50
"""The number of global batches whose sequences are sorted by length together."""
_MAX_LOSS_RATIO = 10.0
"""Training stops when a micro-batch's loss exceeds 10 x max(first step's loss, 1). The 1 is for a
student that continues from a good adapter, whose first loss is near zero."""


class LengthGroupedSampler(Sampler[int]):
    """Random order in which sequences of similar length are together, to save padding.

    The sequences of 50 global batches are sorted by length, and their batches are shuffled again.
    Within a batch, joint prompts and replayed sequences are grouped, because a micro-batch takes
    separate forward passes for the two kinds; they are dealt to the processes, which would wait for
    the one with all the replayed sequences. What a global batch holds depends on the seed and the
    epoch only, not on the number of processes or the size of a micro-batch. An epoch consists of
    whole global batches: the last one is filled with sequences of the same epoch, so that every
    step is a mean over the same number of sequences.

    Args:
        batch_size: sequences of a micro-batch of one process.
    """

    def __init__(
        self,
        dataset: DistillDataset,
        global_batch: int,
        seed: int,
        *,
        num_processes: int = 1,
        batch_size: int = 1,
    ) -> None:
        self._dataset, self._global_batch, self._seed = dataset, global_batch, seed
        self._lengths, self._is_replay = dataset.lengths, dataset.is_replay
        self._num_processes, self._batch_size = num_processes, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self._global_batch) * self._global_batch

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed}:{self._dataset.epoch}")
        num_examples, batch_size = len(self._lengths), self._global_batch
        shuffled = rng.sample(range(num_examples), num_examples)
        indices = list(islice(cycle(shuffled), len(self)))
        megabatch_size = batch_size * _MEGABATCH
        for start in range(0, len(indices), megabatch_size):
            # The sort is stable: sequences of equal length stay shuffled.
            megabatch = sorted(
                indices[start : start + megabatch_size], key=lambda index: self._lengths[index]
            )
            batches = [
                megabatch[first : first + batch_size]
                for first in range(0, len(megabatch), batch_size)
            ]
            for batch in rng.sample(batches, len(batches)):
                yield from self._deal(sorted(batch, key=lambda index: self._is_replay[index]))

    def _deal(self, batch: Sequence[int]) -> Iterator[int]:
        """Yield the micro-batches of all processes, which take turns to get one."""
        num_at_once = self._num_processes * self._batch_size
        for start in range(0, len(batch), num_at_once):
            for process in range(self._num_processes):
                yield from batch[start : start + num_at_once][process :: self._num_processes]


@dataclass(frozen=True)
class BuiltBatch:
    """A micro-batch, and the samples that were set aside for it.

    Attributes:
        batch: an error of sekd where the micro-batch could not be built. PyTorch passes an
            exception on from a worker as text only, so :meth:`DistillTrainer.compute_loss` raises
            it.
        set_aside: sample id -> why the model's processor does not take its image.
    """

    batch: MicroBatch | SekdError
    set_aside: Mapping[str, str] = field(default_factory=dict)


class MicroBatchBuilder:
    """The DataLoader's ``collate_fn``: builds a micro-batch from the indices of its examples.

    An example whose image the model's processor does not take is replaced by the next one of its
    kind, so that all micro-batches keep their size.
    """

    def __init__(self, dataset: DistillDataset, collate: DistillCollator) -> None:
        self._dataset = dataset
        self._collate = collate
        self._is_replay = dataset.is_replay
        self._refused: dict[int, str] = {}

    def __call__(self, indices: Sequence[int]) -> dict[str, BuiltBatch]:
        """Build one micro-batch as the ``inputs`` of ``compute_loss``."""
        try:
            return {"built": self._build(indices)}
        except SekdError as error:
            return {"built": BuiltBatch(error)}

    def _build(self, indices: Sequence[int]) -> BuiltBatch:
        try:
            return BuiltBatch(self._collate([self._dataset[index] for index in indices]))
        except Exception:
            usable = [index for index in indices if self._is_usable(index)]
            if len(usable) == len(indices):
                raise
        set_aside = {
            self._dataset[index].sample.sample_id: self._refused[index]
            for index in indices
            if index in self._refused
        }
        indices = [self._usable_from(index) for index in indices]
        return BuiltBatch(self._collate([self._dataset[index] for index in indices]), set_aside)

    def _usable_from(self, index: int) -> int:
        """Return the first example of the same kind, from this one on, whose image is taken."""
        num_examples = len(self._is_replay)
        for candidate in (other % num_examples for other in range(index, index + num_examples)):
            if self._is_replay[candidate] == self._is_replay[index] and self._is_usable(candidate):
                return candidate
        raise ConfigError(
            f"the model's processor takes no image of the training set; the last: "
            f"{self._refused[index]}"
        )

    def _is_usable(self, index: int) -> bool:
        """Collate an example alone, if that was not done before.

        Raises:
            Exception: any error but that the model's processor does not take its image.
        """
        if index not in self._refused:
            try:
                self._collate([self._dataset[index]])
            except ImageRefusedError as error:
                self._refused[index] = str(error)
        return index not in self._refused


class DistillTrainer(Trainer):
    """A ``Trainer`` whose loss is the weighted sum of the terms, and which logs each of them.

    Its DataLoader yields indices of ``dataset``; ``collate`` turns them into micro-batches.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: DistillDataset,
        collate: DistillCollator,
        global_batch: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            train_dataset=range(len(dataset)),
            data_collator=MicroBatchBuilder(dataset, collate),
            **kwargs,
        )
        self._objective = objective
        self._dataset = dataset
        self._global_batch = global_batch
        self._term_sums: dict[str, float] = defaultdict(float)
        self._num_sequences: dict[str, int] = defaultdict(int)
        self._step_sample_ids: list[str] = []
        self._set_aside: set[str] = set()
        # The terms are means over sequences, so the Trainer has to average the micro-batches.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return LengthGroupedSampler(
            self._dataset,
            self._global_batch,
            self.args.seed,
            num_processes=self.args.world_size,
            batch_size=self.args.per_device_train_batch_size,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the loss of one micro-batch.

        Raises:
            SekdError: if the micro-batch could not be built.
            FatalError: if the model fails on the micro-batch, or the loss is not finite or has
                exploded; the message names the samples.
        """
        built: BuiltBatch = inputs["built"]
        batch = built.batch
        if isinstance(batch, SekdError):
            raise batch
        for sample_id in built.set_aside.keys() - self._set_aside:
            logger.warning("%s is not trained on: %s", sample_id, built.set_aside[sample_id])
        self._set_aside |= built.set_aside.keys()
        self._step_sample_ids += batch.sample_ids
        try:
            terms = self._objective(model, batch)
        except (RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise FatalError(
                f"the model fails on a micro-batch at step {self.state.global_step}: "
                f"{in_one_line(error, limit=200)}; the samples: {', '.join(batch.sample_ids)}"
            ) from error
        loss = self._objective.weighted(terms)
        self._check_loss(loss.item(), batch)
        self._add_to_means(terms, batch)
        return loss

    def _check_loss(self, loss: float, batch: MicroBatch) -> None:
        """Compare the loss with that of the first step, which a resumed run has in its log."""
        first = next((entry["loss"] for entry in self.state.log_history), math.inf)
        limit = _MAX_LOSS_RATIO * max(first, 1.0)
        if math.isfinite(loss) and loss <= limit:
            return
        expected = f", but should be at most {limit:.4g}" if math.isfinite(limit) else ""
        raise self._training_error(f"the loss is {loss:.4g}", expected, batch.sample_ids)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip the gradient, which happens right before the optimizer's step.

        Raises:
            FatalError: if the gradient is not finite; the message names the samples of the step, of
                all processes.
        """
        norm = super()._clip_grad_norm(model)
        if not math.isfinite(norm):  # the norm is the same in all processes
            sample_ids = gather_object(self._step_sample_ids)
            raise self._training_error(f"the gradient's norm is {norm:.4g}", "", sample_ids)
        self._step_sample_ids.clear()
        return norm

    def _training_error(self, value: str, expected: str, sample_ids: Sequence[str]) -> FatalError:
        return FatalError(
            f"{value} at step {self.state.global_step}{expected}; the samples: "
            f"{', '.join(sample_ids)}. Lower distill.learning_rate, or look at the samples with "
            "sekd inspect"
        )

    def _add_to_means(self, terms: dict[str, Tensor], batch: MicroBatch) -> None:
        """Add each term, as a sum over the sequences of its kind, to the mean that is logged."""
        for term in TERMS:
            sequences = term.sequences(batch)
            if term.name in terms and sequences is not None:
                self._term_sums[term.name] += terms[term.name].item() * len(batch.sample_ids)
                self._num_sequences[term.name] += sequences.num_sequences

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each term since the last entry, over the sequences of all processes."""
        if "loss" in logs:
            names = [term.name for term in TERMS]
            local = torch.tensor([[self._term_sums[n], self._num_sequences[n]] for n in names])
            totals = self.accelerator.reduce(local.to(self.args.device)).tolist()
            for name, (term_sum, num_sequences) in zip(names, totals, strict=True):
                if num_sequences:
                    logs[name] = round(term_sum / num_sequences, 5)
            self._term_sums.clear()
            self._num_sequences.clear()
        super().log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a plain PEFT adapter with the full weights, also if they are sharded."""
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=True
        )
        weights = get_model_state_dict(self.model_wrapped, options=options)
        if self.args.should_save:
            self.accelerator.unwrap_model(self.model).save_pretrained(
                output_dir, state_dict=weights
            )

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the random state, the last file of each process, and wait for all processes.

        The main process then writes ``trainer_state.json``, which makes the checkpoint complete.
        """
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
