"""Measure what a stepwise teacher costs: four ways to ask the same questions, and the hook pass.

    python benchmarks/elicit.py [--check] [--images 64]

A random model of the Qwen2.5-VL family with its real vocabulary size, 400 image tokens, six levels
of four options. Each way runs in a process of its own on the same images and questions and must
give the same labels. The last lines have the ratios beside their limits; with --check the exit code
is 1 if one exceeds its limit. It takes two free cores and about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from figures import Figure, finish
from generate_engine import GenerateEngine
from random_vlm import (
    HIDDEN_SIZE,
    NUM_IMAGE_TOKENS,
    SMALL_VOCABULARY,
    VOCABULARY,
    write_world,
)

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.images import read_unchanged
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.engines import Conversation, Engine, open_engine
from sekd.models import loading
from sekd.models.batching import to_device
from sekd.models.chat import Chat
from sekd.stages.answers import SampleAnswers
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker, longest_first
from sekd.stages.prepare import PreparedSample, prepare_samples
from sekd.stages.walk import walk

LAYERS = ["block_1", "block_3", "block_5", "final_norm"]
MEMORY_SLACK = 20.0  # MB; the logits of one batch's answers alone take 58


def load_config(folder: Path, vocabulary: int = VOCABULARY) -> RunConfig:
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
                "elicit": {"runtime": {"batch_size": 16}},
            }
        )
    )


# Four ways to ask; each gives its labels, seconds and prefill tokens


def open_way(way: str, config: RunConfig, chat: Chat) -> Engine:
    if way == "generate":
        return GenerateEngine(config.model, chat)
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


def ask_questions(folder: Path, way: str) -> dict[str, Any]:
    """Walk all images; returns labels, seconds and token counts."""
    config = load_config(folder)
    dataset = Dataset.load("train", config.data["train"])
    chat = Chat(loading.load_processor(config.model), subject="organism")
    engine = open_way(way, config, chat)
    samples = list(dataset.samples)

    def walks(selected: list[Any]) -> Iterator[Conversation[SampleAnswers]]:
        for prepared in prepare_samples(dataset, selected):
            assert isinstance(prepared, PreparedSample)
            yield walk(chat, dataset, prepared, config.elicit)

    list(engine.run(walks(samples[:2])))  # so that kernels are chosen and caches made
    before = read_metrics(engine)
    started = time.monotonic()
    walked = list(engine.run(walks(samples)))
    seconds = time.monotonic() - started
    after = read_metrics(engine)
    levels = [level for answers in walked for level in answers.levels]
    counted = sum(level.num_prompt_tokens - level.num_cached_tokens for level in levels)
    if after:
        computed = after["queries"] - before["queries"] - (after["hits"] - before["hits"])
    labels = {
        answers.sample_id: [level.node.name for level in answers.levels if level.node]
        for answers in walked
    }
    joint = sum(
        len(chat.joint_prompt([level.question for level in answers.levels], dataset.taxonomy.root))
        for answers in walked
    )
    engine.close()
    return {
        "seconds": seconds,
        "prefill_tokens": computed if after else counted,
        "counted_tokens": counted,
        "joint_tokens": joint + (NUM_IMAGE_TOKENS - 1) * len(walked),
        "labels": labels,
    }


def read_metrics(engine: Engine) -> dict[str, int]:
    """Read vLLM's counters, which exist only with prefix caching."""
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
    """Measure seconds of the hook pass and of a plain forward, peak memory and bytes on disk."""
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
    hooks = states._extractor
    samples = list(signals.TeacherShard(*pair))
    rows = longest_first(samples)

    @torch.inference_mode()
    def plain() -> None:
        """Run the same batches, images included, without hooks and ``lm_head``."""
        for start in range(0, len(rows), 16):
            some = rows[start : start + 16]
            images = [
                read_unchanged(Path(each.sample.image), each.sample.image_sha256) for each in some
            ]
            keys = [each.sample.image_sha256 for each in some]
            batch = hooks._batcher([each.token_ids for each in some], images, keys)
            hooks._model.model(**to_device(batch.inputs, hooks._model), use_cache=False)

    def hooked() -> None:
        states.process(shard, files_at, lambda _: None)

    hooks._lm_head.weight.sum()  # reads the mapped weights from their file into memory
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
    num_tokens = sum(len(each.token_ids) for each in rows)
    num_tokens += len(samples) * (NUM_IMAGE_TOKENS - 1)
    num_answers = sum(len(sample.answers) for sample in samples)
    return {
        "plain_seconds": min(seconds["plain"]),
        "hooked_seconds": min(seconds["hooked"]),
        "growth_mb": growth / 1e3,
        "bytes_per_sample": num_bytes / len(samples),
        "all_positions_bytes": 2
        * HIDDEN_SIZE
        * len(config.elicit.layers)
        * num_tokens
        / len(samples),
        "full_logits_bytes": 2 * vocabulary * num_answers / len(samples),
        "tokens_per_sample": num_tokens / len(samples),
    }


# All parts


def in_a_process(folder: Path, part: str) -> dict[str, Any]:
    """Run one part in its own process, which prints its result as the last line."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"{part} failed:\n{process.stderr[-4000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def share_of_equal(first: dict[str, list[str]], second: dict[str, list[str]]) -> float:
    """Compute the share of levels that have the same label, over all samples."""
    pairs = [
        pair
        for sample_id, labels in first.items()
        for pair in zip(labels, second[sample_id], strict=True)
    ]
    return sum(a == b for a, b in pairs) / len(pairs)


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
    agreement = min(
        share_of_equal(ways["generate"]["labels"], result["labels"]) for result in ways.values()
    )
    large, small = (in_a_process(folder, f"hook-{size}") for size in (VOCABULARY, SMALL_VOCABULARY))
    print(
        f"\nhook pass {large['hooked_seconds']:.1f} s, a plain forward "
        f"{large['plain_seconds']:.1f} s; memory beyond a plain forward "
        f"{large['growth_mb']:.0f} MB with {VOCABULARY:,} tokens, "
        f"{small['growth_mb']:.0f} MB with {SMALL_VOCABULARY:,}\n"
        f"bytes per sample {large['bytes_per_sample']:,.0f}; all {large['tokens_per_sample']:.0f} "
        f"positions {large['all_positions_bytes']:,.0f}, full logits at the answers "
        f"{large['full_logits_bytes']:,.0f}\n"
    )
    a, b, c = (ways[way]["seconds"] for way in ("generate", "transformers", "vllm"))
    of_joint = ways["vllm"]["prefill_tokens"] / ways["vllm"]["joint_tokens"]
    of_plain = large["hooked_seconds"] / large["plain_seconds"]
    more = large["growth_mb"] - small["growth_mb"]
    positions, logits = (
        large[name] / large["bytes_per_sample"]
        for name in ("all_positions_bytes", "full_logits_bytes")
    )
    return [
        Figure("labels that all four agree on", agreement, "", 1.0, is_ceiling=False),
        Figure("(c) prefill tokens / those of a joint pass", of_joint, "times", 1.2),
        Figure("(a) / (c), wall time", a / c, "times", 5, is_ceiling=False),
        Figure("(a) / (b), wall time", a / b, "times", 3, is_ceiling=False),
        Figure("hook pass / plain forward, wall time", of_plain, "times", 1.1),
        Figure("hook pass, memory for the larger vocabulary", more, "MB", MEMORY_SLACK),
        Figure("all positions / ours, bytes", positions, "times", 100, is_ceiling=False),
        Figure("full-vocabulary logits / ours, bytes", logits, "times", 100, is_ceiling=False),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        if options.part.startswith("hook-"):
            result = hook_pass(options.folder, int(options.part.removeprefix("hook-")))
        else:
            result = ask_questions(options.folder, options.part)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.images)
    finish(figures, check=options.check)


if __name__ == "__main__":
    main()
