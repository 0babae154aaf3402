"""The teacher's walk of a gallery model over images of mixed sizes, and a reference for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from sekd.config import ModelSpec, RunConfig, load_config
from sekd.data import signals
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.data.toyworld import write_world
from sekd.engines import Answer, Ask, Conversation, Engine, Prompt
from sekd.engines.driver import ActiveConversation
from sekd.errors import SampleError
from sekd.models import loading
from sekd.models.batching import Batcher, forward_arguments, to_device
from sekd.models.chat import Chat, load_chat
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker

NUM_SAMPLES = 6
BATCH_SIZE = 4  # two orders of two samples


def write_mixed_world(folder: Path) -> Path:
    """Draw a world, and give its samples images of unusual sizes, modes and orientation."""
    write_world(folder, num_train=NUM_SAMPLES, num_test=1, seed=0)
    config = load_config(folder / "config.yaml")
    samples = Dataset.load("train", config.data["train"]).samples
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8))

    tall = noise(1542 // 4, 690 // 4, 3).resize((690, 1542))
    turned = Image.Exif()
    turned[0x0112] = 6  # rotate by 90 degrees
    images: list[tuple[Image.Image, dict[str, Any]]] = [
        (noise(16, 16, 3), {}),
        (noise(300, 1, 3), {}),
        (tall, {}),
        (noise(60, 90, 4), {}),
        (noise(70, 120, 3), {"exif": turned}),
    ]
    for sample, (image, options) in zip(samples, images, strict=False):
        image.save(str(sample.image), **options)
    return folder


def mixed_config(world: Path, folder: Path, model: ModelSpec, **elicit: Any) -> RunConfig:
    """Return a config that elicits from the mixed world with this model."""
    content = yaml.safe_load((world / "config.yaml").read_text("utf-8"))
    content["model"] = {"path": model.path, "dtype": model.dtype}
    content["elicit"] |= {
        "max_quarantined": 0.9,
        "permutations": 2,
        "plain": {"share": 0.0},
        "state_dtype": "float32",
        "top_k": 10,
        "layers": ["block_0", "final_norm"],
        **elicit,
    }
    content["elicit"]["runtime"] = {"batch_size": BATCH_SIZE, "shard_size": NUM_SAMPLES}
    content["run_dir"] = str(folder)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_config(path)


@dataclass
class RecordingEngine:
    """Passes everything on to an engine, and keeps each request with its answer."""

    engine: Engine
    asked: list[tuple[Ask, Answer]] = field(default_factory=list)
    turns: list[list[Ask]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def version(self) -> str:
        return self.engine.version

    def run(self, conversations: Iterable[Conversation[Any]]) -> Iterator[Any]:
        return self.engine.run(self._record(conversation) for conversation in conversations)

    def close(self) -> None:
        self.engine.close()

    def _record(self, conversation: Conversation[Any]) -> Conversation[Any]:
        active = ActiveConversation(conversation)
        while not active.is_done:
            try:
                responses = yield active.requests
            except SampleError as error:
                active.fail(error)
                continue
            self.turns.append(list(active.requests))
            for request, response in zip(active.requests, responses, strict=True):
                assert isinstance(request, Ask)
                assert isinstance(response, Answer)
                self.asked.append((request, response))
            active.answer(responses)
        return active.result


class Teacher:
    """Elicits one shard of the mixed world, and keeps what the engine was asked."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self.config = config
        self.dataset = Dataset.load("train", config.data["train"])
        self.shard = Shard(0, tuple(sample.id for sample in self.dataset.samples))
        self._folder = folder
        worker = AnswersWorker(config, self.dataset)
        self.recorded = RecordingEngine(worker._teacher._engine)
        worker._teacher._engine = self.recorded
        folder.mkdir(parents=True)
        self.answers = worker.process(self.shard, folder, lambda _: None)
        worker.close()

    @property
    def files(self) -> tuple[Path, Path]:
        return self.answers.files[signals.TRANSCRIPTS], self.answers.files[signals.ANSWERS]

    def states(self, config: RunConfig | None = None) -> ShardResult:
        """Run the state pass over the answers."""
        worker = StatesWorker(config or self.config, {0: self.files})
        result = worker.process(self.shard, self._folder, lambda _: None)
        worker.close()
        return result


class SingleForwards:
    """Answers each request by a forward pass of its own, without cache or hooks."""

    def __init__(self, spec: ModelSpec) -> None:
        self.chat: Chat = load_chat(spec, subject="organism")
        self.model = loading.load_model(spec)

    @torch.inference_mode()
    def logprobs(self, request: Ask) -> np.ndarray:
        prompt = request.prompt
        try:
            logits = self._logits(prompt, num_rows=1)
        except RuntimeError:  # Mistral 3 fails on one image of one merged patch, not on two
            logits = self._logits(prompt, num_rows=2)
        return logits[0, -1].float().log_softmax(-1)[list(request.option_ids)].numpy()

    def _logits(self, prompt: Prompt, num_rows: int) -> torch.Tensor:
        batcher = Batcher(self.chat, forward_arguments(self.model))
        token_ids, image, key = prompt.token_ids, prompt.image, prompt.image_key
        batch = batcher([token_ids] * num_rows, [image] * num_rows, [key] * num_rows)
        logits: torch.Tensor = self.model(
            **to_device(batch.inputs, self.model), use_cache=False
        ).logits
        return logits
