"""Cost of a training step: against the same losses over full logits, and against trl's SFT.

    python benchmarks/distill.py [--check]

The model is a random one of the Qwen2.5-VL family with its real vocabulary size. Sequences have
about 590 tokens (225 of them are the image's) and six levels of four options. LoRA is on the
language model, and everything is in float32. Each part runs in a separate process, on the same
shard of a real elicitation. Memory is the peak above the memory in use before the first step; the C
library is set to return freed tensors, or the peak would be that of its cache. The last lines show
the ratios and their limits; with --check the exit code is 1 if a ratio misses its limit. The
benchmark needs two free cores, 10 GB of memory and six minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
import trl.trainer.utils
from figures import Figure, finish
from full_logits import FullLogits
from peft import PeftModel
from random_vlm import VOCABULARY, write_world
from trl import SFTConfig, SFTTrainer

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.models import loading
from sekd.models.batching import Batcher, forward_arguments
from sekd.models.chat import Chat
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.collate import DistillCollator
from sekd.stages.distill.dataset import DistillDataset, JointExample, ShardFiles
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.train import train
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker

IMAGE_SIZE = 420  # 15 x 15 merged patches of 28 pixels
BATCH = 2
NUM_STEPS = 6  # of a trainer; the first is not timed
NUM_IMAGES = BATCH * NUM_STEPS
TERMS = ("hard", "format", "soft", "feature")


def load_config(folder: Path, **distill: Any) -> RunConfig:
    files = {"table": str(folder / "table.csv"), "taxonomy": str(folder / "taxonomy.json")}
    return RunConfig.model_validate_json(
        json.dumps(
            {
                "run_dir": str(folder / "run"),
                "model": {"path": str(folder / f"model-{VOCABULARY}"), "dtype": "float32"},
                "data": {"train": files},
                "distill": {
                    "replay": 0,
                    "global_batch": BATCH,
                    "runtime": {"batch_size": BATCH, "logging_steps": 1},
                    **distill,
                },
            }
        )
    )


def elicit(folder: Path) -> dict[str, Any]:
    """Write one shard of the teacher's signals."""
    config = load_config(folder)
    dataset = Dataset.load("train", config.data["train"])
    shard = Shard(0, tuple(sample.id for sample in dataset.samples))
    worker = AnswersWorker(config, dataset)
    answers = worker.process(shard, folder, lambda _: None).files
    worker.close()
    pair = (answers[signals.TRANSCRIPTS], answers[signals.ANSWERS])
    states = StatesWorker(config, {0: pair}).process(shard, folder, lambda _: None).files
    files = [*pair, states[signals.STATES], states[signals.STATE_ROWS]]
    (folder / "shard.json").write_text(json.dumps([str(path) for path in files]), encoding="utf-8")
    return {}


def load_shard(folder: Path) -> ShardFiles:
    names = json.loads((folder / "shard.json").read_text(encoding="utf-8"))
    return ShardFiles(*[Path(name) for name in names])


def load_dataset(folder: Path, config: RunConfig) -> tuple[Chat, DistillDataset]:
    chat = Chat(loading.load_processor(config.model), subject="organism")
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    return chat, DistillDataset([load_shard(folder)], taxonomy, chat, config.distill)


def load_student(config: RunConfig) -> PeftModel:
    """Return the base with an adapter that changes the outputs; B of a fresh adapter is zero."""
    torch.manual_seed(0)
    student = add_adapter(loading.load_model(config.model), config.distill)
    for name, weight in student.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return student


class Meter:
    """Measures the seconds of a step, and the peak of memory above what is in use now."""

    def __init__(self, model: torch.nn.Module) -> None:
        for weight in model.parameters():
            weight.sum()  # reads the weights, which are memory-mapped, into memory
        self._initial_bytes = psutil.Process().memory_info().rss
        self._times = [time.monotonic()]

    def tick(self) -> None:
        self._times.append(time.monotonic())

    def result(self) -> dict[str, float]:
        """Leave out the first step, which selects kernels and creates the optimizer's state."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        steps = [end - start for start, end in pairwise(self._times)][1:]
        return {
            "seconds": min(steps),
            "mean_seconds": sum(steps) / len(steps),
            "step_mb": (peak - self._initial_bytes) / 1e6,
            "total_mb": peak / 1e6,
        }


# The same losses twice


def measure_steps(folder: Path, objective_name: str, num_steps: int = 3) -> dict[str, Any]:
    """Measure training steps on one batch; also return the terms of the first step."""
    config = load_config(folder)
    chat, dataset = load_dataset(folder, config)
    student = load_student(config).train()
    arguments = forward_arguments(student.get_base_model())
    batch = DistillCollator(Batcher(chat, arguments))([dataset[i] for i in range(BATCH)])
    objective = (
        FullLogits(student, config)
        if objective_name == "full"
        else Objective(student, config.model, config.distill, dataset.layers)
    )
    optimizer = torch.optim.AdamW(
        [weight for weight in student.parameters() if weight.requires_grad], lr=1e-5
    )
    torch.manual_seed(1)  # for the adapter's dropout
    first_terms: dict[str, float] = {}
    meter = Meter(student)
    for _ in range(num_steps):
        terms = objective(student, batch)
        if not first_terms:
            first_terms = {name: term.item() for name, term in terms.items()}
        objective.weighted(terms).backward()
        optimizer.step()
        optimizer.zero_grad()
        del terms
        meter.tick()
    assert batch.joint is not None
    return {
        "terms": first_terms,
        "num_tokens": batch.joint.inputs["input_ids"].shape[1],
        "num_targets": len(batch.joint.targets),
    } | meter.result()


# Two trainers


class Clock(transformers.TrainerCallback):
    """Measures a trainer's steps, including data loading."""

    meter: Meter

    def on_train_begin(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        self.meter = Meter(model)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.meter.tick()


def train_sekd(folder: Path, **distill: Any) -> dict[str, Any]:
    """Measure sekd's ``train`` with all four terms."""
    config = load_config(folder, **distill)
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    clock = Clock()
    transformers.trainer.DEFAULT_CALLBACKS.append(clock)
    train(config, taxonomy, [load_shard(folder)], folder / f"trained-{time.monotonic_ns()}")
    return clock.meter.result()


def open_trl(
    folder: Path, config: RunConfig, dataset: DistillDataset, chat: Chat, clock: Clock
) -> Any:
    """Return trl's trainer of the same student on the same prompts, answers and images."""
    from datasets import Dataset as Table
    from datasets import Features, Image, List, Value

    rows = [to_text(example, chat) for example in joint_examples(dataset)]
    features = {"prompt": Value("string"), "completion": Value("string"), "images": List(Image())}
    student = load_student(config)
    spec = config.distill
    arguments = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH,
        max_steps=NUM_STEPS,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        logging_steps=1,
        max_length=None,
        bf16=False,
        gradient_checkpointing=spec.runtime.gradient_checkpointing,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = SFTTrainer(
        student,
        arguments,
        train_dataset=Table.from_list(rows, features=Features(features)),
        processing_class=chat.processor,
        callbacks=[clock],
    )
    trainer.remove_callback(transformers.ProgressCallback)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def joint_examples(dataset: DistillDataset) -> list[JointExample]:
    examples = [dataset[i] for i in range(len(dataset))]
    return [example for example in examples if isinstance(example, JointExample)]


def to_text(example: JointExample, chat: Chat) -> dict[str, Any]:
    """Return an example as a row of trl's dataset."""
    token_ids = example.transcript.token_ids
    start = example.transcript.is_target.index(True)
    return {
        "prompt": chat.tokenizer.decode(token_ids[:start], skip_special_tokens=False),
        "completion": chat.tokenizer.decode(token_ids[start:], skip_special_tokens=False),
        "images": [example.sample.image],
    }


def train_trl(folder: Path, *, compact: bool = False) -> dict[str, Any]:
    """Measure trl's trainer as it runs on a CPU.

    Args:
        compact: as on a GPU, where trl computes the loss at labelled positions only.
    """
    if compact:
        trl.trainer.utils._use_triton = lambda _: True  # the Triton kernels themselves stay off
    config = load_config(folder)
    chat, dataset = load_dataset(folder, config)
    clock = Clock()
    trainer = open_trl(folder, config, dataset, chat, clock)
    trainer.train()
    return clock.meter.result()


def compare_text_loss(folder: Path, num_samples: int = 3) -> dict[str, Any]:
    """Compare the ``text`` term with trl's loss.

    Returns the largest difference, and whether the tokens are the same. The comparison is sample by
    sample, because trl averages a batch over tokens, and sekd over sequences.
    """
    off = dict.fromkeys(TERMS, 0)
    config = load_config(folder, losses={**off, "text": 1})
    chat, dataset = load_dataset(folder, config)
    trainer = open_trl(folder, config, dataset, chat, Clock())
    student = trainer.model.eval()
    collate = DistillCollator(Batcher(chat, forward_arguments(student.get_base_model())))
    objective = Objective(student, config.model, config.distill, dataset.layers)
    differences, is_same = [], True
    with torch.no_grad():
        examples = joint_examples(dataset)[:num_samples]
        for example, row in zip(examples, trainer.train_dataset, strict=False):
            batch = collate([example])
            assert batch.joint is not None
            inputs = trainer.data_collator([row])
            is_same &= torch.equal(inputs["input_ids"], batch.joint.inputs["input_ids"])
            trl_loss = trainer.compute_loss(student, dict(inputs))
            sekd_loss = objective.weighted(objective(student, batch))
            differences.append(abs(float(trl_loss) - float(sekd_loss)))
    return {"difference": max(differences), "is_same": is_same}


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "elicit": elicit,
    "ours": lambda folder: measure_steps(folder, "ours"),
    "full": lambda folder: measure_steps(folder, "full"),
    "text": compare_text_loss,
    "sekd": train_sekd,
    "trl": train_trl,
    "trl-compact": lambda folder: train_trl(folder, compact=True),
    "replay": lambda folder: train_sekd(folder, replay=0.25),
}


def run_part(folder: Path, part: str) -> dict[str, Any]:
    """Run one part in a separate process; the last line that it prints is its result."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    environment = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "1000000",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode:
        sys.exit(f"{part} failed:\n{process.stderr[-4000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def measure(folder: Path) -> list[Figure]:
    write_world(folder, NUM_IMAGES, IMAGE_SIZE)
    run_part(folder, "elicit")
    titles = {
        "ours": "a step: four terms, ours",
        "full": "a step: the same over full logits",
        "sekd": "training: ours, four terms",
        "trl": "training: trl's SFT, one term",
        "trl-compact": "  as on a GPU: labelled positions alone",
        "replay": "training: ours, a quarter replayed",
    }
    print(f"{'':40}{'s/step':>8}{'mean':>8}{'MB of a step':>14}{'MB in all':>11}")
    results = {}
    for part, title in titles.items():
        results[part] = result = run_part(folder, part)
        seconds = f"{result['seconds']:8.2f}{result['mean_seconds']:8.2f}"
        memory = f"{result['step_mb']:14,.0f}{result['total_mb']:11,.0f}"
        print(f"{title:40}{seconds}{memory}", flush=True)
    text = run_part(folder, "text")
    ours, full = results["ours"], results["full"]
    print(
        f"\n{BATCH} sequences of {ours['num_tokens']} tokens a step, {ours['num_targets']} target "
        f"tokens; trl sees {'the same tokens' if text['is_same'] else 'OTHER TOKENS'}"
    )
    for name in TERMS:
        print(f"{name:8} ours {ours['terms'][name]:.6f}, full {full['terms'][name]:.6f}")
    difference = max(abs(ours["terms"][name] - full["terms"][name]) for name in TERMS)

    def ratio(part: str, other: str, quantity: str, limit: float) -> Figure:
        quantity_title = {"step_mb": "memory of a step", "seconds": "wall time"}[quantity]
        other_title = {"full": "full logits", "trl": "trl"}[other]
        title = f"ours / {other_title}, {quantity_title}"
        return Figure(title, results[part][quantity] / results[other][quantity], "times", limit)

    return [
        ratio("ours", "full", "step_mb", 1 / 5),
        ratio("ours", "full", "seconds", 1 / 3),
        Figure("largest difference of a term", difference, "", 1e-5),
        ratio("sekd", "trl", "step_mb", 1),
        ratio("sekd", "trl", "seconds", 1),
        Figure("loss of text alone, difference from trl's", text["difference"], "", 1e-5),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    finish(figures, check=options.check)


if __name__ == "__main__":
    main()
