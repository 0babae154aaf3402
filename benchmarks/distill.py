"""What a student's step costs: against the same losses over full logits, and against trl's SFT.

    python benchmarks/distill.py [--check]

A random model of the Qwen2.5-VL family with its real vocabulary size, sequences of about 590 tokens
(225 of them the image's), six levels of four options, LoRA on the language model, float32. Each
part runs in a process of its own, on the same shard of a real elicitation. Memory is the peak
beyond what is held before the first step; the C library is told to give freed tensors back, or the
peak would be that of its own cache. The last lines have the ratios beside their limits; with
--check the exit code is 1 where one falls short. Wants two free cores, 10 GB and six minutes.
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
from peft import PeftModel
from random_vlm import VOCABULARY, write_world
from torch import Tensor
from torch.nn import functional
from trl import SFTConfig, SFTTrainer
from trl.experimental.gkd import GKDTrainer

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.models import loading
from sekd.models.batching import Batcher
from sekd.models.chat import Chat
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.collate import DistillCollator, MicroBatch, Signals
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

# Shapes: B batch, L padded length, M letters, V vocabulary, D hidden size.


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
    """One shard of the real teacher's signals."""
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


def load_lessons(folder: Path, config: RunConfig) -> tuple[Chat, DistillDataset]:
    chat = Chat(loading.load_processor(config.model), subject="organism")
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    return chat, DistillDataset([load_shard(folder)], taxonomy, chat, config.distill)


def load_student(config: RunConfig) -> PeftModel:
    """The base with an adapter that says something: B of a fresh one is zero."""
    torch.manual_seed(0)
    student = add_adapter(loading.load_model(config.model), config.distill)
    for name, weight in student.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return student


class Meter:
    """Seconds of a step, and the peak of memory beyond what is held now."""

    def __init__(self, model: torch.nn.Module) -> None:
        for weight in model.parameters():
            weight.sum()  # weights are mapped from their file: now they are in memory
        self._held = psutil.Process().memory_info().rss
        self._times = [time.monotonic()]

    def tick(self) -> None:
        self._times.append(time.monotonic())

    def result(self) -> dict[str, float]:
        """Without the first step, where kernels are chosen and the optimiser's state is made."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        steps = [b - a for a, b in pairwise(self._times)][1:]
        return {
            "seconds": min(steps),
            "mean_seconds": sum(steps) / len(steps),
            "step_mb": (peak - self._held) / 1e6,
            "total_mb": peak / 1e6,
        }


# The same losses twice


class FullLogits:
    """The terms as they are usually written: logits and states at all positions, then masks.

    Labels are -100 where nothing is learned, as transformers has it, and the divergence is trl's
    own of its GKD trainer. No teacher runs: its log-probabilities are scattered to where they are
    wanted, the rest stays zero.
    """

    def __init__(self, student: PeftModel, config: RunConfig) -> None:
        self._lm_head = student.get_base_model().get_output_embeddings()
        self._layers = {"block_4": 5, "final_norm": -1}  # index in hidden_states: 0 is the input

    def __call__(self, student: PeftModel, batch: MicroBatch) -> dict[str, Tensor]:
        assert batch.joint is not None
        learned, teacher = batch.joint.learned, batch.joint.signals
        assert teacher is not None
        output = student(**batch.joint.inputs, use_cache=False, output_hidden_states=True)
        logits_BLV = output.logits.float()
        shape = logits_BLV.shape[:2]
        where = (learned.rows_N, learned.positions_N)
        labels_BL = torch.full(shape, -100).index_put(where, learned.targets_N)
        weights_BL = torch.zeros(shape).index_put(where, learned.weights_N)
        is_letter_BL = torch.zeros(shape, dtype=torch.bool).index_put(where, learned.is_letter_N)

        nll_BL = functional.cross_entropy(
            logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=-100, reduction="none"
        ).view(shape)
        teacher_BLV = torch.zeros_like(logits_BLV)
        teacher_BLV[is_letter_BL] = self._teacher(teacher)
        kl_M = GKDTrainer.generalized_jsd_loss(
            logits_BLV,
            teacher_BLV,
            labels_BL.where(is_letter_BL, -100),
            beta=0,
            reduction="none",
        ).sum(-1)

        distances = []
        for layer, index in self._layers.items():
            states_BLD = output.hidden_states[index]
            teacher_BLD = torch.zeros_like(states_BLD)
            teacher_BLD[is_letter_BL] = teacher.states[layer].float()
            distances.append(1 - functional.cosine_similarity(states_BLD, teacher_BLD, dim=-1))
        is_same_BL = is_letter_BL.clone()  # where another letter is wanted the last state is no aim
        is_same_BL[is_letter_BL] = labels_BL[is_letter_BL] == teacher.targets_M
        distance_BL = (distances[0] + distances[1] * is_same_BL) / 2
        return {
            "hard": (nll_BL * weights_BL * is_letter_BL).sum(),
            "format": (nll_BL * weights_BL * ~is_letter_BL).sum(),
            "soft": (kl_M * weights_BL[is_letter_BL]).sum(),
            "feature": (distance_BL * weights_BL * is_letter_BL).sum(),
        }

    @torch.no_grad()
    def _teacher(self, teacher: Signals) -> Tensor:
        """Log-probabilities [M, V], the letters exchanged for the student's."""
        scores_MV = self._lm_head(teacher.states["final_norm"].float()).log_softmax(-1)
        old, new = teacher.teacher_letters_ML, teacher.student_letters_ML
        renamed_MV = scores_MV.scatter(-1, old, scores_MV.gather(-1, new))
        return renamed_MV.scatter(-1, new, teacher.logprobs_ML).log_softmax(-1)

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(terms.values())).sum()


def steps_of(folder: Path, way: str, num_steps: int = 3) -> dict[str, Any]:
    """Forward, backward and optimiser on one batch, again and again; the first step's terms."""
    config = load_config(folder)
    chat, lessons = load_lessons(folder, config)
    batch = DistillCollator(Batcher(chat, with_token_types=True))(
        [lessons[i] for i in range(BATCH)]
    )
    student = load_student(config).train()
    objective = (
        FullLogits(student, config)
        if way == "full"
        else Objective(student, config.model, config.distill, lessons.layers)
    )
    optimizer = torch.optim.AdamW([x for x in student.parameters() if x.requires_grad], lr=1e-5)
    torch.manual_seed(1)  # of the adapter's dropout
    first: dict[str, float] = {}
    meter = Meter(student)
    for _ in range(num_steps):
        terms = objective(student, batch)
        first = first or {name: term.item() for name, term in terms.items()}
        objective.weighted(terms).backward()
        optimizer.step()
        optimizer.zero_grad()
        del terms
        meter.tick()
    assert batch.joint is not None
    size = batch.joint.inputs["input_ids"].shape
    return {"terms": first, "tokens": size[1], "learned": len(batch.joint.learned.targets_N)} | (
        meter.result()
    )


# Two trainers


class Clock(transformers.TrainerCallback):
    """A meter of a trainer's steps, data included."""

    meter: Meter

    def on_train_begin(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        self.meter = Meter(model)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.meter.tick()


def train_sekd(folder: Path, **distill: Any) -> dict[str, Any]:
    """The real thing: ``train``, all four terms."""
    config = load_config(folder, **distill)
    taxonomy = Dataset.load("train", config.data["train"]).taxonomy
    clock = Clock()
    transformers.trainer.DEFAULT_CALLBACKS.append(clock)
    train(config, taxonomy, [load_shard(folder)], folder / f"trained-{time.monotonic_ns()}")
    return clock.meter.result()


def open_trl(
    folder: Path, config: RunConfig, lessons: DistillDataset, chat: Chat, clock: Clock
) -> Any:
    """trl's trainer of the same student on the same prompts, answers and images, as text."""
    from datasets import Dataset as Table
    from datasets import Features, Image, List, Value

    rows = [text_of(lesson, chat) for lesson in joint(lessons)]
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


def joint(lessons: DistillDataset) -> list[JointExample]:
    every = [lessons[i] for i in range(len(lessons))]
    return [lesson for lesson in every if isinstance(lesson, JointExample)]


def text_of(lesson: JointExample, chat: Chat) -> dict[str, Any]:
    ids, start = lesson.transcript.token_ids, lesson.transcript.is_target.index(True)
    prompt, completion = (
        chat.tokenizer.decode(some, skip_special_tokens=False)
        for some in (ids[:start], ids[start:])
    )
    return {"prompt": prompt, "completion": completion, "images": [lesson.sample.image]}


def train_trl(folder: Path, *, compact: bool = False) -> dict[str, Any]:
    """As it runs here; or ``compact``, as on a GPU, where it scores no position without a label."""
    if compact:
        trl.trainer.utils._use_triton = lambda _: True  # the kernels' own switch stays off
    config = load_config(folder)
    chat, lessons = load_lessons(folder, config)
    clock = Clock()
    trainer = open_trl(folder, config, lessons, chat, clock)
    trainer.train()
    return clock.meter.result()


def text_loss(folder: Path, num_samples: int = 3) -> dict[str, Any]:
    """Largest difference of ``text`` alone from trl's loss, and whether the tokens are the same.

    Sample by sample: of a batch trl averages the tokens, ours the sequences.
    """
    off = dict.fromkeys(TERMS, 0)
    config = load_config(folder, losses={**off, "text": 1})
    chat, lessons = load_lessons(folder, config)
    trainer = open_trl(folder, config, lessons, chat, Clock())
    student = trainer.model.eval()
    collate = DistillCollator(Batcher(chat, with_token_types=True))
    objective = Objective(student, config.model, config.distill, lessons.layers)
    differences, is_same = [], True
    with torch.no_grad():
        for lesson, row in zip(joint(lessons)[:num_samples], trainer.train_dataset, strict=False):
            batch = collate([lesson])
            assert batch.joint is not None
            inputs = trainer.data_collator([row])
            is_same &= torch.equal(inputs["input_ids"], batch.joint.inputs["input_ids"])
            theirs = trainer.compute_loss(student, dict(inputs))
            ours = objective.weighted(objective(student, batch))
            differences.append(abs(float(theirs) - float(ours)))
    return {"difference": max(differences), "is_same": is_same}


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "elicit": elicit,
    "ours": lambda folder: steps_of(folder, "ours"),
    "full": lambda folder: steps_of(folder, "full"),
    "text": text_loss,
    "sekd": train_sekd,
    "trl": train_trl,
    "trl-compact": lambda folder: train_trl(folder, compact=True),
    "replay": lambda folder: train_sekd(folder, replay=0.25),
}


def in_a_process(folder: Path, part: str) -> dict[str, Any]:
    """One part in a process of its own; its last line is its result."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    environment = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "1000000",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{part} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path) -> list[Figure]:
    write_world(folder, NUM_IMAGES, IMAGE_SIZE)
    in_a_process(folder, "elicit")
    titles = {
        "ours": "a step: four terms, ours",
        "full": "a step: the same over full logits",
        "sekd": "training: ours, four terms",
        "trl": "training: trl's SFT, one term",
        "trl-compact": "  as on a GPU: labelled positions alone",
        "replay": "training: ours, a quarter replayed",
    }
    print(f"{'':40}{'s/step':>8}{'mean':>8}{'MB of a step':>14}{'MB in all':>11}")
    found = {}
    for part, title in titles.items():
        found[part] = each = in_a_process(folder, part)
        seconds = f"{each['seconds']:8.2f}{each['mean_seconds']:8.2f}"
        memory = f"{each['step_mb']:14,.0f}{each['total_mb']:11,.0f}"
        print(f"{title:40}{seconds}{memory}", flush=True)
    text = in_a_process(folder, "text")
    ours, full = found["ours"], found["full"]
    print(
        f"\n{BATCH} sequences of {ours['tokens']} tokens a step, {ours['learned']} tokens learned; "
        f"trl sees {'the same tokens' if text['is_same'] else 'OTHER TOKENS'}"
    )
    for name in TERMS:
        print(f"{name:8} ours {ours['terms'][name]:.6f}, full {full['terms'][name]:.6f}")
    apart = max(abs(ours["terms"][name] - full["terms"][name]) for name in TERMS)

    def figure(part: str, other: str, what: str, limit: float) -> Figure:
        of = {"step_mb": "memory of a step", "seconds": "wall time"}[what]
        title = f"ours / {other}{' logits' if other == 'full' else ''}, {of}"
        return Figure(title, found[part][what] / found[other][what], "times", limit)

    return [
        figure("ours", "full", "step_mb", 1 / 5),
        figure("ours", "full", "seconds", 1 / 3),
        Figure("largest difference of a term", apart, "", 1e-5),
        figure("sekd", "trl", "step_mb", 1),
        figure("sekd", "trl", "seconds", 1),
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
