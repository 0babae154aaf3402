"""Stage two: train the LoRA student on the teacher's shards."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed

from sekd.config import DistillSpec, RunConfig
from sekd.data.hashing import hash_directory
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.stages import models
from sekd.stages.batches import Batcher
from sekd.stages.chat import Chat
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.card import model_card
from sekd.stages.distill.lessons import Lesson, Lessons, ShardFiles
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.supervision import Collator, MicroBatch
from sekd.stages.distill.trainer import Bar, DistillTrainer, Epochs, Lines
from sekd.stages.elicit.states import states_spec

DISTILL_VERSION = 2
"""Part of the fingerprint: raise it when the same input would give another adapter."""


def distill_spec(config: RunConfig) -> dict[str, Any]:
    """The settings that the adapter depends on, as JSON."""
    own = config.distill.model_dump(mode="json", exclude={"runtime"})
    begun = config.distill.initial_adapter
    if begun:  # its content counts, not its place
        own["initial_adapter"] = models.adapter_identity(begun, "distill.initial_adapter")
    return {**states_spec(config), "distill": own}


def distill_fields(
    config: RunConfig, states_fingerprint: str, state_hashes: list[str]
) -> dict[str, Any]:
    """Everything that the adapter depends on: hashed, it is its fingerprint."""
    begun = config.distill.initial_adapter
    in_4bit = config.distill.lora.load_in_4bit
    return {
        "stage": "distill",
        "version": DISTILL_VERSION,
        "spec": distill_spec(config),
        "model": models.identity(config.model),
        "initial_adapter": hash_directory(begun) if begun else None,
        "peft": metadata.version("peft"),
        **({"bitsandbytes": models.bitsandbytes_version()} if in_4bit else {}),
        "states": {"fingerprint": states_fingerprint, "files": state_hashes},
    }


def train(
    config: RunConfig, taxonomy: Taxonomy, shards: Sequence[ShardFiles], directory: Path
) -> Path:
    """Train and leave a standard PEFT adapter in ``directory/adapter``; returns that path.

    Picks up from the last whole checkpoint in ``directory/checkpoints`` if there is one.

    Raises:
        ConfigError: if a batch size, a layer or a module name does not fit.
        FatalError: if the loss stops being finite or explodes.
    """
    spec, dataset_spec = config.distill, config.dataset(config.elicit.dataset, "elicit.dataset")
    set_seed(spec.seed)
    # First, since this chooses the process's device: a base in 4 bits is put there on loading.
    arguments = _arguments(
        spec, directory / "checkpoints", is_bf16=config.model.dtype == "bfloat16"
    )
    chat = Chat(
        models.load_processor(config.model),
        subject=dataset_spec.subject,
        answer=config.elicit.answer,
    )
    base = models.load_model(config.model, in_4bit=spec.lora.load_in_4bit)
    lessons = Lessons(shards, taxonomy, chat, spec)
    batcher = Batcher(chat, with_token_types=models.takes(base, "mm_token_type_ids"))
    collate = Collator(batcher, spec.losses.levels)
    model = add_adapter(base, spec, config.model.decoder_blocks)

    def collate_batch(some: Sequence[Lesson]) -> dict[str, MicroBatch]:
        return {"batch": collate(some)}

    trainer = DistillTrainer(
        Objective(model, config.model, spec, lessons.layers),
        spec.global_batch,
        model=model,
        args=arguments,
        train_dataset=lessons,
        data_collator=collate_batch,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if sys.stderr.isatty():
        trainer.add_callback(Bar)
    trainer.add_callback(Lines)
    trainer.add_callback(Epochs(lessons))
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
    """The last checkpoint that was written to its end: its state is the last file written."""

    def is_whole(checkpoint: Path) -> bool:
        try:
            json.loads((checkpoint / "trainer_state.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        return True

    found = sorted(directory.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return next((str(path) for path in reversed(found) if is_whole(path)), None)


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
