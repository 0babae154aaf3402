"""Stage two: train the LoRA student on the teacher's shards with the transformers ``Trainer``."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from sekd.config import DistillSpec, LossWeights, ModelSpec, RunConfig
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError, FatalError
from sekd.stages import models
from sekd.stages.batches import Batcher, to_device
from sekd.stages.chat import Chat
from sekd.stages.distill.card import model_card
from sekd.stages.distill.dataset import Collator, Lessons, ShardFiles, Supervision
from sekd.stages.distill.losses import (
    feature_loss,
    hard_loss,
    rename_letters,
    soft_loss,
    top_k_soft_loss,
)
from sekd.stages.elicit.states import states_spec
from sekd.stages.head import Head
from sekd.stages.hooks import FINAL_NORM, captured, layer_modules, only_rows

logger = logging.getLogger(__name__)

DISTILL_VERSION = 1
"""Part of the fingerprint: raise it when the same input would give another adapter."""

# Shapes: N learned tokens, M letters among them, V vocabulary.


def distill_spec(config: RunConfig) -> dict[str, Any]:
    """The settings that the adapter depends on, as JSON."""
    own = config.distill.model_dump(mode="json", exclude={"runtime"})
    return {**states_spec(config), "distill": own}


def distill_fields(
    config: RunConfig, states_fingerprint: str, state_hashes: list[str]
) -> dict[str, Any]:
    """Everything that the adapter depends on: hashed, it is its fingerprint."""
    return {
        "stage": "distill",
        "version": DISTILL_VERSION,
        "spec": distill_spec(config),
        "model": models.identity(config.model),
        "peft": metadata.version("peft"),
        "states": {"fingerprint": states_fingerprint, "files": state_hashes},
    }


def adapted_modules(
    model: PreTrainedModel, suffixes: Sequence[str], blocks_path: str | None = None
) -> list[str]:
    """Full paths of the language model's linear layers that get an adapter.

    Only modules below the decoder's blocks are looked at, so a name that the vision tower also has
    ("q_proj") cannot match there.

    Raises:
        ConfigError: if a suffix matches nothing.
    """
    path, blocks = models.decoder_blocks(model, blocks_path)
    linear = [name for name, module in blocks.named_modules() if isinstance(module, nn.Linear)]
    found = [name for name in linear if name.split(".")[-1] in suffixes]
    missing = set(suffixes) - {name.split(".")[-1] for name in found}
    if missing:
        known = sorted({name.split(".")[-1] for name in linear})
        raise ConfigError(
            f"distill.lora.target_modules: no linear layer {', '.join(sorted(missing))} "
            f"below {path}; there are {', '.join(known)}"
        )
    return [f"{path}.{name}" for name in found]


def add_adapter(
    model: PreTrainedModel, spec: DistillSpec, blocks_path: str | None = None
) -> PeftModel:
    """The model with a fresh LoRA adapter; nothing else needs a gradient."""
    config = LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=adapted_modules(model, spec.lora.target_modules, blocks_path),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


@dataclass
class Terms:
    """The loss terms of a batch, each a scalar mean over its sequences."""

    hard: Tensor
    format: Tensor
    soft: Tensor
    feature: Tensor

    def weighted(self, weights: LossWeights) -> Tensor:
        """The loss: their sum under the configured weights."""
        return (
            weights.hard * self.hard
            + weights.format * self.format
            + weights.soft * self.soft
            + weights.feature * self.feature
        )


_TERMS = tuple(term.name for term in fields(Terms))


class Objective:
    """Computes the loss terms: one forward pass, logits at learned positions only."""

    def __init__(
        self, model: PreTrainedModel, spec: ModelSpec, layers: Sequence[str], temperature: float
    ) -> None:
        self._lm_head = model.get_output_embeddings()
        self._head = Head(model)
        self._blocks = layer_modules(model, layers, spec)
        self._temperature = temperature

    def __call__(
        self, model: nn.Module, inputs: dict[str, Tensor], supervision: Supervision
    ) -> Terms:
        """Terms of one batch; gradients reach what of ``model`` needs them."""
        at = _moved(supervision, self._lm_head.weight.device)
        is_letter = at.is_letter_N
        with (
            captured(self._blocks, at.rows_N[is_letter], at.positions_N[is_letter]) as states,
            only_rows(self._lm_head, at.rows_N, at.positions_N) as final,
        ):
            logits_NV = model(**inputs, use_cache=False).logits
        states[FINAL_NORM] = final[0][is_letter]
        weights_M = at.weights_N[is_letter]
        hard_N = hard_loss(logits_NV, at.targets_N) * at.weights_N
        return Terms(
            hard=hard_N[is_letter].sum(),
            format=hard_N[~is_letter].sum(),
            soft=(self._soft(logits_NV[is_letter], at) * weights_M).sum(),
            feature=(self._feature(states, at) * weights_M).sum(),
        )

    def _feature(self, states: dict[str, Tensor], at: Supervision) -> Tensor:
        """Mean distance over the layers, per letter.

        The final state *is* the distribution of the next token: where the student is to write
        another token for the same node, the teacher's final state would lead it astray.
        """
        distances = {name: feature_loss(states[name], at.states[name]) for name in at.states}
        if FINAL_NORM in distances:
            distances[FINAL_NORM] *= at.targets_N[at.is_letter_N] == at.teacher_targets_M
        return torch.stack(list(distances.values())).mean(0)

    def _soft(self, logits_MV: Tensor, at: Supervision) -> Tensor:
        """Exact where the teacher's final state is stored, top k and tail otherwise.

        The letters' own probabilities are the engine's, over all orders of the options.
        """
        teacher_letters, teacher_logprobs = at.teacher_letters_ML, at.teacher_logprobs_ML
        if FINAL_NORM not in at.states:
            # Our ids are ordered by letter; the student's columns are renamed to the teacher's.
            renamed = rename_letters(logits_MV, at.student_letters_ML, teacher_letters)
            top_logprobs = at.top_logprobs_MK
            for letter, logprob in zip(teacher_letters.T, teacher_logprobs.T, strict=True):
                is_letter = at.top_ids_MK == letter[:, None]
                top_logprobs = torch.where(is_letter, logprob[:, None], top_logprobs)
            top_logprobs = top_logprobs - top_logprobs.logsumexp(-1, keepdim=True).clamp_min(0)
            return top_k_soft_loss(renamed, at.top_ids_MK, top_logprobs)
        with torch.no_grad():
            teacher_MV = self._head.logits(at.states[FINAL_NORM]).float().log_softmax(-1)
            teacher_MV = teacher_MV.scatter(-1, teacher_letters, teacher_logprobs)
            teacher_MV = rename_letters(teacher_MV, teacher_letters, at.student_letters_ML)
        return soft_loss(logits_MV, teacher_MV, self._temperature)


def _moved(supervision: Supervision, device: torch.device) -> Supervision:
    moved: dict[str, Any] = {
        item.name: getattr(supervision, item.name).to(device)
        for item in fields(supervision)
        if item.name != "states"
    }
    states = {name: state.to(device) for name, state in supervision.states.items()}
    return Supervision(**moved, states=states)


class DistillTrainer(Trainer):
    """A ``Trainer`` whose loss is the weighted sum of the terms, each of them logged."""

    def __init__(self, objective: Objective, weights: LossWeights, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._objective = objective
        self._weights = weights
        self._sums: dict[str, float] = defaultdict(float)
        self._num_batches = 0
        # The terms are means over sequences: the Trainer is to average micro-batches itself.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss of one micro-batch.

        Raises:
            FatalError: if it is not finite; the samples are named.
        """
        terms = self._objective(model, to_device(inputs["inputs"], model), inputs["supervision"])
        loss = terms.weighted(self._weights)
        if not math.isfinite(loss.item()):
            named = ", ".join(inputs["sample_ids"])
            raise FatalError(f"the loss is {loss.item()} at step {self.state.global_step}: {named}")
        for name in _TERMS:
            self._sums[name] += getattr(terms, name).item()
        self._num_batches += 1
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of the terms since the last line."""
        if self._num_batches and "loss" in logs:
            logs |= {name: round(v / self._num_batches, 5) for name, v in self._sums.items()}
            self._sums.clear()
            self._num_batches = 0
        super().log(logs, *args, **kwargs)


class _Lines(TrainerCallback):
    """The Trainer's log as plain lines of ours, with the time left."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """One line."""
        if not state.is_world_process_zero or not logs or "hard" not in logs:
            return
        terms = ", ".join(
            f"{name} {float(logs[name]):.4g}" for name in ("loss", *_TERMS) if name in logs
        )
        logger.info("distill: step %d/%d, %s", state.global_step, state.max_steps, terms)


class _Epochs(TrainerCallback):
    """Tells the lessons which epoch begins."""

    def __init__(self, lessons: Lessons) -> None:
        self._lessons = lessons

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Another order of the options."""
        self._lessons.set_epoch(int(state.epoch or 0))


class _Bar(ProgressCallback):
    """The Trainer's bar without its copies of the log."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: :class:`_Lines` writes the log."""


def train(
    config: RunConfig, taxonomy: Taxonomy, shards: Sequence[ShardFiles], directory: Path
) -> Path:
    """Train and leave a standard PEFT adapter in ``directory/adapter``; returns that path.

    Picks up from the last checkpoint in ``directory/checkpoints`` if there is one.

    Raises:
        ConfigError: if a batch size or a module name does not fit.
        FatalError: if the loss stops being finite.
    """
    spec, dataset_spec = config.distill, config.dataset(config.elicit.dataset, "elicit.dataset")
    set_seed(spec.seed)
    chat = Chat(models.load_processor(config.model), subject=dataset_spec.subject)
    base = models.load_model(config.model)
    lessons = Lessons(
        shards,
        taxonomy,
        chat,
        replay=spec.replay,
        min_confidence=spec.min_confidence,
        seed=spec.seed,
    )
    objective = Objective(base, config.model, lessons.layers, spec.temperature)
    batcher = Batcher(chat, with_token_types=models.takes(base, "mm_token_type_ids"))
    model = add_adapter(base, spec, config.model.decoder_blocks)
    arguments = _arguments(
        spec, directory / "checkpoints", is_bf16=config.model.dtype == "bfloat16"
    )
    trainer = DistillTrainer(
        objective,
        spec.losses,
        model=model,
        args=arguments,
        train_dataset=lessons,
        data_collator=Collator(batcher),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if sys.stderr.isatty():
        trainer.add_callback(_Bar)
    trainer.add_callback(_Lines)
    trainer.add_callback(_Epochs(lessons))
    trainer.train(resume_from_checkpoint=_last_checkpoint(directory / "checkpoints"))
    adapter = directory / "adapter"
    if trainer.is_world_process_zero():
        temporary = directory / "adapter.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(str(temporary))
        card = model_card(config, model.targeted_module_names, trainer.state.log_history)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        temporary.replace(adapter)
    return adapter


def _last_checkpoint(directory: Path) -> str | None:
    return get_last_checkpoint(str(directory)) if directory.is_dir() else None


def _arguments(spec: DistillSpec, directory: Path, *, is_bf16: bool) -> TrainingArguments:
    runtime = spec.runtime
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    per_step = runtime.batch_size * world_size
    if spec.global_batch % per_step:
        raise ConfigError(
            f"distill.global_batch {spec.global_batch} is no multiple of {runtime.batch_size} "
            f"(distill.runtime.batch_size) x {world_size} processes"
        )
    return TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=runtime.batch_size,
        gradient_accumulation_steps=spec.global_batch // per_step,
        num_train_epochs=spec.epochs,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=spec.warmup,
        weight_decay=spec.weight_decay,
        seed=spec.seed,
        bf16=is_bf16 and torch.cuda.is_available(),
        gradient_checkpointing=runtime.gradient_checkpointing,
        save_steps=runtime.save_steps,
        save_total_limit=2,
        logging_steps=runtime.logging_steps,
        report_to=list(runtime.report_to) or "none",
        remove_unused_columns=False,
        label_names=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
