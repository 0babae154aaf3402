"""Stage two: train the LoRA student on the teacher's shards."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed

from sekd.config import DistillSpec, RunConfig
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.batching import Batcher
from sekd.models.chat import Chat
from sekd.stages.distill import distributed as ranks
from sekd.stages.distill.adapter import adapted_in, add_adapter
from sekd.stages.distill.card import model_card
from sekd.stages.distill.checkpoints import Checkpoint, last_checkpoint
from sekd.stages.distill.collate import DistillCollator, MicroBatch
from sekd.stages.distill.curves import write_curves
from sekd.stages.distill.dataset import DistillDataset, Example, ShardFiles
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.trainer import (
    CheckpointCurvesCallback,
    DistillTrainer,
    LogCallback,
    ProgressBarCallback,
    SetEpochCallback,
)
from sekd.stages.elicit.states import states_spec

DISTILL_VERSION = 3
"""Part of the fingerprint: raise it when the same input would give another adapter."""


def distill_spec(config: RunConfig) -> dict[str, Any]:
    """The settings that the adapter depends on, as JSON."""
    own = config.distill.model_dump(mode="json", exclude={"runtime"})
    begun = config.distill.initial_adapter
    if begun:  # its content counts, not its place
        own["initial_adapter"] = loading.adapter_identity(begun, "distill.initial_adapter")
    return {**states_spec(config), "distill": own}


def distill_fields(
    config: RunConfig, states_fingerprint: str, state_hashes: list[str]
) -> dict[str, Any]:
    """Everything that the adapter depends on: hashed, it is its fingerprint."""
    in_4bit = config.distill.lora.load_in_4bit
    return {
        "stage": "distill",
        "version": DISTILL_VERSION,
        "spec": distill_spec(config),
        "model": loading.model_identity(config.model),
        "peft": metadata.version("peft"),
        **({"bitsandbytes": loading.bitsandbytes_version()} if in_4bit else {}),
        "states": {"fingerprint": states_fingerprint, "files": state_hashes},
    }


def train(
    config: RunConfig, taxonomy: Taxonomy, shards: Sequence[ShardFiles], directory: Path
) -> Path:
    """Train and leave a standard PEFT adapter in ``directory/adapter``; returns that path.

    Picks up from the last whole checkpoint in ``directory/checkpoints`` if there is one. On one
    device the adapter is then to the bit that of a run that was never stopped. In processes that
    torchrun or accelerate started, all of them come here; the first one writes.

    Raises:
        ConfigError: if a batch size, a layer or a module name does not fit.
        FatalError: if the loss or the gradient stops being finite, or the loss explodes.
    """
    adapter, checkpoints = directory / "adapter", directory / "checkpoints"
    if ranks.broadcast_from_main(adapter.is_dir):
        return adapter
    checkpoint = ranks.broadcast_from_main(lambda: last_checkpoint(checkpoints))
    if checkpoint is None or not checkpoint.is_final:
        _fit(config, taxonomy, shards, directory, checkpoint)
        checkpoint = ranks.broadcast_from_main(lambda: last_checkpoint(checkpoints))
        assert checkpoint is not None
        assert checkpoint.is_final
    final = checkpoint
    ranks.broadcast_from_main(lambda: _write_adapter(config, final, adapter))
    return adapter


def _fit(
    config: RunConfig,
    taxonomy: Taxonomy,
    shards: Sequence[ShardFiles],
    directory: Path,
    checkpoint: Checkpoint | None,
) -> None:
    spec, dataset_spec = config.distill, config.dataset(config.elicit.dataset, "elicit.dataset")
    is_bf16 = config.model.dtype == "bfloat16"
    # First, since this chooses the process's device: a base in 4 bits is put there on loading.
    args = _arguments(spec, directory / "checkpoints", is_bf16=is_bf16)
    if spec.runtime.num_workers:
        # Micro-batches come as shared memory. Held open as file descriptors, which is PyTorch's
        # way, those of one large global batch would be more than a process is allowed.
        torch.multiprocessing.set_sharing_strategy("file_system")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in each worker
    if ranks.uses_fsdp():
        # Of checkpoints only, the adapter is whole anyway; and a checkpoint in one file is written,
        # but accelerate never comes back from reading it.
        os.environ["FSDP_STATE_DICT_TYPE"] = "SHARDED_STATE_DICT"
        # Else all processes but the first would begin with empty weights, and an adapter on them.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    set_seed(spec.seed)
    chat = Chat(
        loading.load_processor(config.model),
        subject=dataset_spec.subject,
        answer=config.elicit.answer,
    )
    device = "cpu" if ranks.uses_fsdp() else None
    base = loading.load_model(config.model, device, in_4bit=spec.lora.load_in_4bit)
    lessons = DistillDataset(shards, taxonomy, chat, spec)
    batcher = Batcher(chat, with_token_types=loading.forward_accepts(base, "mm_token_type_ids"))
    collate = DistillCollator(batcher, spec.losses.levels)
    model = add_adapter(base, spec, config.model.decoder_blocks)

    def collate_batch(some: Sequence[Example]) -> dict[str, MicroBatch]:
        return {"batch": collate(some)}

    trainer = DistillTrainer(
        Objective(model, config.model, spec, lessons.layers),
        spec.global_batch,
        model=model,
        args=args,
        train_dataset=lessons,
        data_collator=collate_batch,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if sys.stderr.isatty():
        trainer.add_callback(ProgressBarCallback)
    trainer.add_callback(LogCallback(spec.global_batch))
    trainer.add_callback(SetEpochCallback(lessons))
    trainer.add_callback(CheckpointCurvesCallback(directory))
    # What accelerate passes on to PyTorch for our ddp_broadcast_buffers.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    set_seed(spec.seed + args.process_index)  # each process drops out other units
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)


def _write_adapter(config: RunConfig, checkpoint: Checkpoint, adapter: Path) -> None:
    """The checkpoint's adapter under its own name, with card and curves; all at once."""
    temporary = adapter.with_name("adapter.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(checkpoint.path / name, temporary / name)
    write_curves(checkpoint.history, temporary)
    card = model_card(config, adapted_in(temporary), checkpoint.history)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    temporary.replace(adapter)


def _arguments(spec: DistillSpec, directory: Path, *, is_bf16: bool) -> TrainingArguments:
    runtime = spec.runtime
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    per_step = runtime.batch_size * world_size
    if spec.global_batch % per_step:
        raise ConfigError(
            f"distill.global_batch {spec.global_batch} is no multiple of {runtime.batch_size} "
            f"(distill.runtime.batch_size) x {world_size} processes"
        )
    args = TrainingArguments(
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
        logging_first_step=True,
        report_to=list(runtime.report_to) or "none",
        remove_unused_columns=False,
        label_names=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        # Workers get the lessons by fork: open shards cannot be sent (macOS starts processes anew).
        dataloader_num_workers=min(runtime.num_workers, os.cpu_count() or 1)
        if multiprocessing.get_start_method() == "fork"
        else 0,
        # A micro-batch may lack one kind of sequence, so processes run different numbers of forward
        # passes, and none of those may wait for the others. All of the adapter is in all of them.
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,
    )
    # One device for each process: Trainer would take every GPU in sight (DataParallel), and with n
    # of them n times the global batch.
    args._n_gpu = min(args.n_gpu, 1)
    return args
