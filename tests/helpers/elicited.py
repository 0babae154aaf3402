"""One shard of the tiny model's signals, with its training set and micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from sekd.config import DistillSpec, RunConfig, load_config
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.data.taxonomy import Taxonomy
from sekd.models import loading
from sekd.models.batching import Batcher
from sekd.models.chat import Chat
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.collate import DistillCollator, MicroBatch
from sekd.stages.distill.dataset import DistillDataset, Example, ShardFiles
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker

NUM_SAMPLES = 4
IDEFICS3_ARGUMENTS = ("input_ids", "attention_mask", "pixel_values", "pixel_attention_mask")


@dataclass(frozen=True)
class Elicited:
    """A config and the shard that was elicited under it."""

    config: RunConfig
    shard: ShardFiles
    taxonomy: Taxonomy
    chat: Chat

    def with_spec(self, **changes: object) -> RunConfig:
        """Return the config with other settings of distillation."""
        spec = type(self.config.distill).model_validate(
            self.config.distill.model_dump() | changes, strict=False
        )
        return self.config.model_copy(update={"distill": spec})

    def dataset(self, **changes: object) -> DistillDataset:
        spec = self.with_spec(**changes).distill
        return DistillDataset([self.shard], self.taxonomy, self.chat, spec)

    def collate(
        self, examples: Sequence[Example], level_weights: Sequence[float] = ()
    ) -> MicroBatch:
        batcher = Batcher(self.chat, IDEFICS3_ARGUMENTS)
        return DistillCollator(batcher, level_weights)(examples)


def elicit(world: Path, folder: Path, *overrides: str) -> Elicited:
    """Elicit some samples of the drawn world.

    The states of one block and the final norm are stored in float32; one sample has a plain reply.
    """
    defaults = [
        "elicit.plain.share=0.3",
        "elicit.state_dtype=float32",
        "elicit.layers=[block_1, final_norm]",
        "elicit.top_k=50",
    ]
    config = load_config(world / "config.yaml", [*defaults, *overrides])
    dataset = Dataset.load("train", config.data["train"])
    shard = Shard(0, tuple(sample.id for sample in dataset.samples[:NUM_SAMPLES]))
    answers = AnswersWorker(config, dataset).process(shard, folder, lambda _: None).files
    pair = (answers[signals.TRANSCRIPTS], answers[signals.ANSWERS])
    states = StatesWorker(config, {0: pair}).process(shard, folder, lambda _: None).files
    files = ShardFiles(*pair, states[signals.STATES], states[signals.STATE_ROWS])
    chat = Chat(loading.load_processor(config.model), subject="organism")
    return Elicited(config, files, dataset.taxonomy, chat)


def student_of(elicited: Elicited, spec: DistillSpec, scale: float = 0.05) -> PeftModel:
    """Return a student whose adapter changes the outputs, unlike a fresh adapter."""
    model = add_adapter(loading.load_model(elicited.config.model), spec)
    generator = torch.Generator().manual_seed(0)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(0, scale, generator=generator)
    return model.eval()
