"""Train the LoRA student on the teacher's shards, with checkpoints to resume from."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed

from sekd.config import DistillSpec, RunConfig
from sekd.data.images import Reading
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.files import remove, replace_atomically
from sekd.io.terminal_log import is_quiet
from sekd.models import loading
from sekd.models.adapters import (
    WEIGHTS,
    adapter_identity,
    copy_adapter_config,
    write_processor_args,
)
from sekd.models.batching import Batcher, forward_arguments
from sekd.models.chat import load_chat
from sekd.models.lora_targets import default_names
from sekd.models.probe import probe_model
from sekd.models.usage import write_usage_files
from sekd.stages.distill import distributed
from sekd.stages.distill.adapter import add_adapter, saved_modules
from sekd.stages.distill.callbacks import (
    CheckpointCurvesCallback,
    LogCallback,
    ProgressBarCallback,
    RecordCheckpointCallback,
    SetEpochCallback,
)
from sekd.stages.distill.card import model_card
from sekd.stages.distill.checkpoints import Checkpoint, TrainingInputs, last_checkpoint
from sekd.stages.distill.collate import DistillCollator
from sekd.stages.distill.curves import write_curves
from sekd.stages.distill.dataset import DistillDataset, ShardFiles
from sekd.stages.distill.images import compare_images, student_spec
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.trainer import DistillTrainer
from sekd.stages.elicit.states import states_spec

DISTILL_VERSION = 3
"""Part of the fingerprint. Raise it when the same input would give another adapter."""


def distill_spec(config: RunConfig) -> dict[str, Any]:
    """Return the settings that the adapter depends on, as JSON values.

    Adapted layers that are left to sekd count with their names, as if the config had given them.
    """
    settings = config.distill.model_dump(mode="json", exclude={"runtime"})
    if config.distill.lora.target_modules is None:
        settings["lora"]["target_modules"] = default_names(config.model)
    initial = config.distill.initial_adapter
    if initial is not None:
        # The adapter's content belongs to the fingerprint; its path does not.
        settings["initial_adapter"] = adapter_identity(initial, "distill.initial_adapter")
    return {**states_spec(config), "distill": settings}


def distill_fields(config: RunConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that the adapter depends on: the fields of its fingerprint.

    Args:
        inputs: ``states``: fingerprint of the manifest of the states, which follows from all that
            was asked; ``descent``: hash of the labels whose children are learned from, if any.
    """
    fields = {
        "stage": "distill",
        "version": DISTILL_VERSION,
        "spec": distill_spec(config),
        "model": loading.model_identity(config.model),
        "peft": metadata.version("peft"),
        **inputs,
    }
    if config.distill.lora.load_in_4bit:
        fields["bitsandbytes"] = loading.bitsandbytes_version()
    return fields


def train(
    config: RunConfig,
    taxonomy: Taxonomy,
    shards: Sequence[ShardFiles],
    directory: Path,
    inputs: TrainingInputs | None = None,
) -> Path:
    """Train, write a standard PEFT adapter to ``directory/adapter`` and return that path.

    Training resumes from the last checkpoint in ``directory/checkpoints`` that is whole, if there
    is one. On one device the adapter is then bit-identical to that of an uninterrupted run. Every
    process that torchrun or accelerate started must call this; the main process writes.

    Args:
        inputs: what the shards are, for the records of checkpoints, and what is read beside them.

    Raises:
        ConfigError: if a batch size, a layer or a module name does not fit.
        SampleError: if an image file has changed since the teacher saw it.
        ShardError: if a shard's file changes while it is trained on.
        FatalError: if the loss or the gradient is not finite, or the loss explodes.
    """
    inputs = inputs or TrainingInputs()
    adapter, checkpoints = directory / "adapter", directory / "checkpoints"

    def find_checkpoint() -> Checkpoint | None:
        return last_checkpoint(checkpoints, inputs)

    checkpoint = distributed.broadcast_from_main(find_checkpoint)
    if checkpoint is None or not checkpoint.is_final:
        _fit(config, taxonomy, shards, directory, checkpoint, inputs)
        checkpoint = distributed.broadcast_from_main(find_checkpoint)
        assert checkpoint is not None
        assert checkpoint.is_final
    final_checkpoint = checkpoint
    distributed.broadcast_from_main(
        lambda: _write_adapter(config, taxonomy, final_checkpoint, adapter)
    )
    return adapter


def _fit(
    config: RunConfig,
    taxonomy: Taxonomy,
    shards: Sequence[ShardFiles],
    directory: Path,
    checkpoint: Checkpoint | None,
    inputs: TrainingInputs,
) -> None:
    """Run the Trainer until its last step, from a checkpoint if there is one."""
    spec, dataset_spec = config.distill, config.dataset(config.elicit.dataset, "elicit.dataset")
    is_bf16 = config.model.dtype == "bfloat16"
    # The arguments come first because they choose this process's device, and a 4-bit base is loaded
    # onto that device.
    args = _training_arguments(spec, directory / "checkpoints", is_bf16=is_bf16)
    _set_environment(spec)
    set_seed(spec.seed)
    chat = load_chat(
        student_spec(config),
        subject=dataset_spec.subject,
        wording=dataset_spec.wording,
        answer=config.elicit.answer,
    )
    chat.refuse_special_names(taxonomy)
    compare_images(config)
    device = "cpu" if distributed.uses_fsdp() else None
    base = loading.load_model(config.model, device, in_4bit=spec.lora.load_in_4bit)
    batcher = Batcher(chat, forward_arguments(base))
    probe_model(base, chat, batcher)  # in a model that is not causal, a student sees its targets
    dataset = DistillDataset(shards, taxonomy, chat, spec, inputs.labels)
    model = add_adapter(base, spec, config.model.decoder_blocks)
    trainer = DistillTrainer(
        Objective(model, config.model, spec, dataset.layers),
        dataset,
        DistillCollator(
            batcher, spec.losses.levels, Reading(dataset_spec.pixel_limit, chat.used_pixels)
        ),
        spec.global_batch,
        model=model,
        args=args,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if sys.stderr.isatty() and not is_quiet():
        trainer.add_callback(ProgressBarCallback)
    trainer.add_callback(LogCallback(spec.global_batch))
    trainer.add_callback(SetEpochCallback(dataset))
    trainer.add_callback(CheckpointCurvesCallback(directory))
    trainer.add_callback(RecordCheckpointCallback(directory / "checkpoints", inputs))
    set_seed(spec.seed + args.process_index)  # dropout differs between processes
    trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)


def _set_environment(spec: DistillSpec) -> None:
    """Set the process-wide switches of PyTorch, tokenizers and accelerate that training needs."""
    if spec.runtime.num_workers:
        # Workers pass micro-batches on in shared memory. PyTorch's default keeps it open as file
        # descriptors, and those of one large global batch would exceed a process's limit.
        torch.multiprocessing.set_sharing_strategy("file_system")
        # Without this, tokenizers warn in every worker.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if distributed.uses_fsdp():
        # accelerate never returns from reading a checkpoint in one file. The setting concerns
        # checkpoints only; the adapter is saved with its full weights.
        os.environ["FSDP_STATE_DICT_TYPE"] = "SHARDED_STATE_DICT"
        # Otherwise all processes but the main one start with empty weights, adapter included.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    # accelerate passes our ddp_broadcast_buffers on to PyTorch under a deprecated name.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)


def _write_adapter(
    config: RunConfig, taxonomy: Taxonomy, checkpoint: Checkpoint, adapter: Path
) -> None:
    """Write the checkpoint's adapter, how it is asked, its model card and curves to ``adapter``.

    The directory appears at the end, when it is complete; an earlier one gives way to it.
    """
    remove(adapter)
    with replace_atomically(adapter) as temporary:
        temporary.mkdir()
        shutil.copyfile(checkpoint.path / WEIGHTS, temporary / WEIGHTS)
        copy_adapter_config(checkpoint.path, temporary)
        student = student_spec(config)
        if student.processor_args != config.model.processor_args:
            write_processor_args(temporary, student.processor_args)
        write_usage_files(temporary, config, student, taxonomy)
        write_curves(checkpoint.history, temporary)
        card = model_card(config, saved_modules(temporary), checkpoint.history)
        (temporary / "README.md").write_text(card, encoding="utf-8")


def _training_arguments(spec: DistillSpec, directory: Path, *, is_bf16: bool) -> TrainingArguments:
    runtime = spec.runtime
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    sequences_per_pass = runtime.batch_size * world_size
    if spec.global_batch % sequences_per_pass:
        raise ConfigError(
            f"distill.global_batch {spec.global_batch} is no multiple of {runtime.batch_size} "
            f"(distill.runtime.batch_size) x {world_size} processes"
        )
    # Workers inherit the dataset by fork: its open files cannot be pickled, which other start
    # methods (macOS) would need.
    can_fork = multiprocessing.get_start_method() == "fork"
    num_workers = min(runtime.num_workers, os.cpu_count() or 1) if can_fork else 0
    args = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=runtime.batch_size,
        gradient_accumulation_steps=spec.global_batch // sequences_per_pass,
        num_train_epochs=spec.epochs,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=spec.warmup,
        weight_decay=spec.weight_decay,
        seed=spec.seed,
        bf16=is_bf16 and torch.cuda.is_available(),
        gradient_checkpointing=runtime.gradient_checkpointing,
        save_steps=runtime.save_steps,
        logging_steps=runtime.logging_steps,
        logging_first_step=True,
        report_to=list(runtime.report_to) or "none",
        remove_unused_columns=False,
        label_names=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        dataloader_num_workers=num_workers,
        # A micro-batch may lack one kind of sequences, so the processes run different numbers of
        # forward passes, and no pass may wait for other processes. Every process uses every weight
        # of the adapter.
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,
    )
    # One device for each process. The Trainer would use all visible GPUs (DataParallel), and
    # multiply the global batch by their number.
    args._n_gpu = min(args.n_gpu, 1)
    return args
