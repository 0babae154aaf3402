"""What a stepwise teacher costs: four ways to ask the same questions, and the hook pass.

    python benchmarks/elicit.py [--check] [--images 64]

A random model of the Qwen2.5-VL family with its real vocabulary size, 400 image tokens, six levels
of four options. Each way runs in a process of its own on the same images and questions and must
give the same labels. The last lines have the ratios beside their limits; with --check the exit code
is 1 where one falls short. Wants two free cores and about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

NUM_LEVELS, NUM_OPTIONS = 6, 4
IMAGE_SIZE = 560  # 20 x 20 merged patches of 28 pixels
VOCABULARY, SMALL_VOCABULARY = 151_936, 8_192
LAYERS = ["block_1", "block_3", "block_5", "final_norm"]


# The model, the images, the questions


def write_world(folder: Path, num_images: int) -> None:
    """Pictures of noise, a taxonomy of made-up names, two random models and a config."""
    import numpy as np
    from PIL import Image

    rng = random.Random(0)
    parts = [a + b for a in "bcdfghlmnprstv" for b in ("a", "e", "i", "o", "us", "ia", "or")]
    paths: dict[str, list[str]] = {}

    def name() -> str:
        return "".join(rng.choice(parts) for _ in range(4))

    def grow(path: list[str]) -> None:
        if len(path) == NUM_LEVELS + 1:
            paths[path[-1]] = path
            return
        for _ in range(4 if len(path) < 3 else 2):
            grow([*path, name()])

    grow([name()])
    (folder / "taxonomy.json").write_text(json.dumps(paths), encoding="utf-8")
    leaves = list(paths)
    rows = []
    noise = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(num_images):
        small = noise.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        image.save(folder / "images" / f"{number}.png")
        rows.append(f"images/{number}.png,{rng.choice(leaves)}")
    (folder / "table.csv").write_text("\n".join(["image,label", *rows]), encoding="utf-8")
    names = [each for path in paths.values() for each in path]
    for size in (VOCABULARY, SMALL_VOCABULARY):
        write_model(folder / f"model-{size}", names, size)


def write_model(folder: Path, names: list[str], vocabulary: int) -> None:
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    words = "Given the image and the known facts, answer with the letter of the right option: what"
    corpus = [*names, *[f"{words} is the level 1 of the organism? None\nA. B. C. D."] * 50]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=1500, special_tokens=special, initial_alphabet=alphabet),
    )
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    ids = tokenizer.convert_tokens_to_ids(special)
    config = hf.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "vocab_size": vocabulary,
            "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12]},
        },
        vision_config={
            "depth": 4,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_heads": 6,
            "out_hidden_size": 384,
            "fullatt_block_indexes": [3],
        },
        vision_start_token_id=ids[2],
        vision_end_token_id=ids[3],
        image_token_id=ids[4],
        video_token_id=ids[5],
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = hf.Qwen2_5_VLForConditionalGeneration(config)
    # Random weights answer every question alike, a hair apart; scaled up they differ.
    for block in model.model.language_model.layers:
        block.self_attn.o_proj.weight.data *= 8
        block.mlp.down_proj.weight.data *= 8
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(min_pixels=IMAGE_SIZE**2, max_pixels=IMAGE_SIZE**2),
        tokenizer,
        hf.Qwen2VLVideoProcessor(),
        chat_template=(
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
            f"{{% if p['type'] == 'image' %}}{image}{{% else %}}{{{{ p['text'] }}}}{{% endif %}}"
            "{% endfor %}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def load_config(folder: Path, vocabulary: int = VOCABULARY) -> Any:
    from sekd.config import RunConfig

    return RunConfig.model_validate_json(
        json.dumps(
            {
                "run_dir": str(folder / "run"),
                "model": {"path": str(folder / f"model-{vocabulary}"), "dtype": "float32"},
                "data": {
                    "train": {
                        "table": str(folder / "table.csv"),
                        "taxonomy": str(folder / "taxonomy.json"),
                    }
                },
                "elicit": {"layers": LAYERS, "runtime": {"batch_size": 16}},
            }
        )
    )


# Four ways to ask; each prints its labels, seconds and prefill tokens


class GenerateEngine:
    """As published scripts do: a ``generate`` per level and image, the image sent every time."""

    name, version = "generate", ""

    def __init__(self, config: Any, chat: Any) -> None:
        from sekd.stages import models
        from sekd.stages.batches import Batcher

        self._model = models.load_model(config.model)
        self._chat, self._batcher = chat, Batcher

    def run(self, conversations: Iterator[Any]) -> Iterator[Any]:
        for conversation in conversations:
            try:
                requests = next(conversation)
                while True:
                    requests = conversation.send([self._answer(each) for each in requests])
            except StopIteration as end:
                yield end.value

    def _answer(self, request: Any) -> Any:
        import torch

        from sekd.stages.engines import Answer

        prompt = request.prompt
        batcher = self._batcher(self._chat, with_token_types=True)
        batch = batcher([prompt.token_ids], [prompt.image], [prompt.image_key])
        output = self._model.generate(
            **batch.inputs,
            max_new_tokens=1,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        logprobs = output.scores[0][0].log_softmax(-1)[torch.tensor(request.option_ids)].numpy()
        return Answer(int(logprobs.argmax()), logprobs, batch.lengths[0], 0)

    def close(self) -> None:
        pass


def open_engine(way: str, config: Any, chat: Any) -> Any:
    from sekd.stages.engines import open_engine

    if way == "generate":
        return GenerateEngine(config, chat)
    if way == "transformers":
        return open_engine("transformers", config.model, chat, batch_size=16, engine_args={})
    return open_engine(
        "vllm",
        config.model,
        chat,
        batch_size=1,
        engine_args={
            "max_model_len": 2048,
            "disable_log_stats": False,
            "enable_prefix_caching": way == "vllm",
        },
    )


def ask(folder: Path, way: str) -> dict[str, Any]:
    from sekd.data.samples import Dataset
    from sekd.stages.chat import Chat
    from sekd.stages.dialogue import open_pictures, walk
    from sekd.stages.models import load_processor

    config = load_config(folder)
    dataset = Dataset.load("train", config.data["train"])
    chat = Chat(load_processor(config.model), subject="organism")
    engine = open_engine(way, config, chat)
    samples = list(dataset.samples)

    def walks(some: list[Any]) -> Iterator[Any]:
        for picture in open_pictures(dataset, some, []):
            yield walk(chat, dataset, picture, config.elicit)

    list(engine.run(walks(samples[:2])))  # kernels are chosen, caches made
    before = read_metrics(engine)
    started = time.monotonic()
    dialogues = list(engine.run(walks(samples)))
    seconds = time.monotonic() - started
    after = read_metrics(engine)
    steps = [step for dialogue in dialogues for step in dialogue.steps]
    counted = sum(step.num_prompt_tokens - step.num_cached_tokens for step in steps)
    if after:
        computed = after["queries"] - before["queries"] - (after["hits"] - before["hits"])
    labels = {
        dialogue.picture.sample.id: [step.node.name for step in dialogue.steps]
        for dialogue in dialogues
    }
    joint = sum(
        len(chat.joint_prompt([step.question for step in each.steps], dataset.taxonomy.root))
        for each in dialogues
    )
    image = (IMAGE_SIZE // 28) ** 2 - 1
    engine.close()
    return {
        "seconds": seconds,
        "prefill_tokens": computed if after else counted,
        "counted_tokens": counted,
        "joint_tokens": joint + image * len(dialogues),
        "labels": labels,
    }


def read_metrics(engine: Any) -> dict[str, int]:
    """vLLM's own counters; without prefix caching it keeps none."""
    if engine.name != "vllm":
        return {}
    values = {m.name: m.value for m in engine._llm.get_metrics() if hasattr(m, "value")}
    if not values.get("vllm:prefix_cache_queries"):
        return {}
    return {
        "queries": values["vllm:prefix_cache_queries"],
        "hits": values["vllm:prefix_cache_hits"],
    }


# The hook pass


def hook_pass(folder: Path, vocabulary: int) -> dict[str, Any]:
    """Seconds against one plain forward of the transcripts, peak memory, bytes on disk."""
    import torch

    from sekd.data import signals
    from sekd.data.samples import Dataset, read_unchanged
    from sekd.data.shards import Shard
    from sekd.stages.batches import to_device
    from sekd.stages.elicit.answers import AnswersWorker
    from sekd.stages.elicit.states import StatesWorker, _by_length

    config = load_config(folder, vocabulary)
    dataset = Dataset.load("train", config.data["train"])
    shard = Shard(0, tuple(sample.id for sample in dataset.samples))
    files_at = folder / f"shard-{vocabulary}"
    files_at.mkdir()
    worker = AnswersWorker(config, dataset)
    answers = worker.process(shard, files_at, lambda _: None)
    worker.close()
    pair = (answers.files[signals.TRANSCRIPTS], answers.files[signals.ANSWERS])
    states = StatesWorker(config, {0: pair})
    samples = list(signals.TeacherShard(*pair))
    passages = _by_length(samples)

    @torch.inference_mode()
    def plain() -> None:
        """One forward of the same batches, images included, without ``lm_head``."""
        for start in range(0, len(passages), 16):
            some = passages[start : start + 16]
            images = [
                read_unchanged(Path(each.sample.image), each.sample.image_sha256) for each in some
            ]
            keys = [each.sample.image_sha256 for each in some]
            batch = states._batcher([each.token_ids for each in some], images, keys)
            states._model.model(**to_device(batch.inputs, states._model), use_cache=False)

    def hooked() -> None:
        states.process(shard, files_at, lambda _: None)

    plain()  # kernels are chosen, and the peak of a plain forward is reached
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hooked()
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds: dict[str, list[float]] = {"plain": [], "hooked": []}
    for _ in range(3):
        for name, run in (("plain", plain), ("hooked", hooked)):
            started = time.monotonic()
            run()
            seconds[name].append(time.monotonic() - started)
    num_bytes = sum(path.stat().st_size for path in files_at.iterdir())
    num_tokens = sum(len(each.token_ids) for each in passages)
    num_tokens += len(samples) * ((IMAGE_SIZE // 28) ** 2 - 1)
    num_answers = sum(len(sample.answers) for sample in samples)
    return {
        "plain_seconds": min(seconds["plain"]),
        "hooked_seconds": min(seconds["hooked"]),
        "growth_mb": growth / 1e3,
        "bytes_per_sample": num_bytes / len(samples),
        "all_positions_bytes": 2 * 384 * len(LAYERS) * num_tokens / len(samples),
        "full_logits_bytes": 2 * vocabulary * num_answers / len(samples),
        "tokens_per_sample": num_tokens / len(samples),
    }


# All of it


@dataclass(frozen=True)
class Figure:
    """A measured ratio beside its limit."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        relation = ">=" if self.at_least else "<="
        mark = "ok" if self.holds else "FALLS SHORT"
        return f"{self.name:66} {self.value:8.2f}  {relation} {self.limit:<6g} {mark}"


def in_a_process(folder: Path, part: str) -> dict[str, Any]:
    """One part in a process of its own; its last line is its result."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{part} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, num_images: int) -> list[Figure]:
    write_world(folder, num_images)
    titles = {
        "generate": "(a) generate, per level and image",
        "transformers": "(b) transformers engine",
        "vllm": "(c) vLLM, prefix caching",
        "vllm-uncached": "(d) vLLM, no prefix caching",
    }
    ways = {}
    print(f"{'':36}{'seconds':>9}{'images/s':>10}{'prefill tokens':>16}{'of joint':>10}")
    for way, title in titles.items():
        ways[way] = result = in_a_process(folder, way)
        of_joint = result["prefill_tokens"] / result["joint_tokens"]
        print(
            f"{title:36}{result['seconds']:9.1f}{num_images / result['seconds']:10.2f}"
            f"{result['prefill_tokens']:16,}{of_joint:10.2f}",
            flush=True,
        )
    asked = {way: result["labels"] for way, result in ways.items()}
    flat = {way: [x for key in sorted(found) for x in found[key]] for way, found in asked.items()}
    agreement = min(
        sum(a == b for a, b in zip(flat["generate"], flat[way], strict=True)) / len(flat[way])
        for way in ways
    )
    large, small = (in_a_process(folder, f"hook-{size}") for size in (VOCABULARY, SMALL_VOCABULARY))
    print(
        f"\nhook pass {large['hooked_seconds']:.1f} s, plain forward {large['plain_seconds']:.1f} s;"
        f" memory beyond a plain forward {large['growth_mb']:.0f} MB with {VOCABULARY:,} tokens, "
        f"{small['growth_mb']:.0f} MB with {SMALL_VOCABULARY:,}\n"
        f"bytes per sample {large['bytes_per_sample']:,.0f}; all {large['tokens_per_sample']:.0f} "
        f"positions {large['all_positions_bytes']:,.0f}, full logits at the answers "
        f"{large['full_logits_bytes']:,.0f}\n"
    )
    a, b, c = (ways[way]["seconds"] for way in ("generate", "transformers", "vllm"))
    vllm = ways["vllm"]
    extra = VOCABULARY * 4 / 1e6  # one row of float32 logits in MB
    return [
        Figure("labels that all four agree on", agreement, 1.0, at_least=True),
        Figure(
            "(c) prefill tokens / a joint pass", vllm["prefill_tokens"] / vllm["joint_tokens"], 1.2
        ),
        Figure("(a) / (c) wall time", a / c, 5, at_least=True),
        Figure("(a) / (b) wall time", a / b, 3, at_least=True),
        Figure(
            "hook pass / plain forward, wall time",
            large["hooked_seconds"] / large["plain_seconds"],
            1.1,
        ),
        Figure(
            "hook pass: MB more with the larger vocabulary",
            large["growth_mb"] - small["growth_mb"],
            16 * extra,
        ),
        Figure(
            "all positions / ours, bytes",
            large["all_positions_bytes"] / large["bytes_per_sample"],
            100,
            at_least=True,
        ),
        Figure(
            "full-vocabulary logits / ours, bytes",
            large["full_logits_bytes"] / large["bytes_per_sample"],
            100,
            at_least=True,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run: Callable[[], dict[str, Any]]
        if options.part.startswith("hook-"):
            result = hook_pass(options.folder, int(options.part.removeprefix("hook-")))
        else:
            result = ask(options.folder, options.part)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.images)
    for figure in figures:
        print(figure.line())
    if options.check and not all(figure.holds for figure in figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
