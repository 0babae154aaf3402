"""Measure what an answer about one image costs: a teacher's descent against every kind of student.

    python benchmarks/predict.py [--check] [--engines transformers] [--shape 7b]
        [--inat hierarchy.json] [--cub hierarchy.json] [--images 16] [--repetitions 3]

A random model of the Qwen2.5-VL family answers about images of noise on two taxonomies: one of the
shape of iNaturalist's animals (5,388 leaves) and one of the shape of CUB's (200). `--inat` and
`--cub` take real files instead. It answers in these ways:

- descent: the questions of a teacher without labels, among the children of the node before;
- generate: the same questions, each computed from its beginning, as published scripts do;
- walk: four options a level, one question after another;
- joint, free: the same questions in one prompt; the reply is written token by token;
- joint, forced: the same reply, of which only the letters are asked for;
- open: names without options, decoded under the taxonomy; also with a quarter of the visual tokens,
  and with an adapter that is merged or not.

Random answers would lead a descent to other places than those where the images of a data set are.
So the model is led down the path of a leaf that was drawn for the image, and a free reply is as
long as that path's. Each engine runs in a process of its own. The ways of one model are measured in
turns, several times, so that other load on the machine falls on all of them: a ratio is that of two
ways in the same turn, and what is held to a limit is the median over the turns. Without a GPU it is
that of their CPU seconds, which other programs do not change. The last lines have the ratios beside
their limits; with --check the exit code is 1 if one falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from answer_costs import HEADER, Row, Seconds, led, timed
from drawn_taxonomies import CUB, INAT_ANIMALS, draw_taxonomy
from figures import Figure, finish
from generate_engine import GenerateEngine
from random_vlm import QWEN_7B, SMALL, VOCABULARY, Shape, write_images, write_model

from sekd.config import DatasetSpec, DescentSpec, DistillSpec, ElicitSpec, EngineName, ModelSpec
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.engines import Conversation, Engine, Write, open_engine
from sekd.engines.metering import metered
from sekd.models.chat import Chat, TokenIds, load_chat
from sekd.models.loading import free_memory, load_model
from sekd.models.merge import merged_model
from sekd.models.open_naming import OpenAnswers
from sekd.stages.descent import descend
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.evaluate.paradigms import run_paradigm
from sekd.stages.naming import name_path
from sekd.stages.prepare import PreparedSample, prepare_samples
from sekd.stages.walk import walk

TREES = {"iNat": INAT_ANIMALS, "CUB": CUB}


@dataclass(frozen=True)
class Size:
    """A model's shape, and its images: squares of this many patches of 28 pixels a side.

    Attributes:
        vocabulary: tokens that the head computes. In a model of billions of weights the head is a
            small part, so a model of a few millions has fewer of them.
        forced_over_free: how many times as fast a forced reply must be as a free one. That depends
            on how many tokens of a prompt can be computed in the time of a token that is written:
            10 to 25 by the tiny one on a CPU, and many more by a large one on a GPU, unless a
            whole batch writes at once.
    """

    shape: Shape
    side: int
    vocabulary: int = VOCABULARY
    forced_over_free: float = 3

    @property
    def pixels(self) -> int:
        return (28 * self.side) ** 2

    @property
    def quarter(self) -> dict[str, int]:
        """Arguments of the processor that show an image in a quarter of its tokens."""
        return {"min_pixels": self.pixels // 4, "max_pixels": self.pixels // 4}


TINY = replace(SMALL, text={**SMALL.text, "num_hidden_layers": 4})
FEWEST_TOKENS = 16_384
SIZES = {
    "tiny": Size(TINY, side=10, vocabulary=FEWEST_TOKENS, forced_over_free=1.8),
    "7b": Size(QWEN_7B, side=36),
}


Converse = Callable[[PreparedSample], Conversation[Any]]


class World:
    """The images of one taxonomy, read once, and the ways to ask about them.

    Args:
        answers: those of open naming, as another model with the same tokenizer has them.
    """

    def __init__(
        self, folder: Path, name: str, chat: Chat, answers: OpenAnswers | None = None
    ) -> None:
        self.name, self.chat = name, chat
        spec = DatasetSpec(
            table=folder / f"{name}.tsv",
            taxonomy=folder / f"{name}.json",
            level_names=TREES[name].ranks,
        )
        self.dataset = Dataset.load(name, spec)
        samples = prepare_samples(self.dataset, self.dataset.samples, chat.used_pixels)
        self.prepared = [sample for sample in samples if isinstance(sample, PreparedSample)]
        assert len(self.prepared) == len(self.dataset.samples)
        self.answers = answers or OpenAnswers(chat, self.dataset.taxonomy)
        self.ways: dict[str, Converse] = {
            "descent": lambda each: descend(chat, self.dataset, each, DescentSpec(), ElicitSpec()),
            "walk": lambda each: walk(chat, self.dataset, each, ElicitSpec()),
            "joint, free": self._write_freely,
            "joint, forced": lambda each: run_paradigm(
                "joint_forced", chat, self.dataset, each, ElicitSpec()
            ),
            "open": lambda each: name_path(self.answers, each),
        }

    def measure(
        self,
        engine: Engine,
        ways: Sequence[str],
        num_turns: int,
        suffix: str = "",
        *,
        only_alone: bool = False,
    ) -> list[Row]:
        """Take turns: each way asks about one image alone, and then about all of them together.

        Args:
            suffix: of the ways' titles.
            only_alone: ask about one image and no more, where the engine takes one at a time.
        """

        def run(way: str, some: Sequence[PreparedSample]) -> tuple[Seconds, list[Any]]:
            conversations = [
                metered(led(self.ways[way](each), self._right_options(way, each))) for each in some
            ]
            return timed(lambda: list(engine.run(conversations)), len(some))

        together: dict[str, list[Seconds]] = {way: [] for way in ways}
        alone: dict[str, list[Seconds]] = {way: [] for way in ways}
        costs_of = {}
        if not only_alone:
            for way in ways:
                run(way, self.prepared[:1])  # so that kernels are chosen and caches made
        for turn, way in product(range(num_turns), ways):
            seconds, costs_of[way] = run(way, [self.prepared[turn % len(self.prepared)]])
            alone[way].append(seconds)
            if not only_alone:
                seconds, costs_of[way] = run(way, self.prepared)
            together[way].append(seconds)
        return [
            Row(
                world=self.name,
                way=way + suffix,
                together=together[way],
                alone=alone[way],
                computed=mean(cost.prefill_tokens for _, cost in costs_of[way]),
                cached=mean(cost.cached_tokens for _, cost in costs_of[way]),
                steps=mean(num_steps for num_steps, _ in costs_of[way]),
            )
            for way in ways
        ]

    def _write_freely(self, prepared: PreparedSample) -> Conversation[None]:
        """Let the model write as many tokens as the reply for the image's leaf has."""
        questions, root = prepared.questions or (), self.dataset.taxonomy.root
        right = [question.right or 0 for question in questions]
        prompt = self.chat.joint_prompt(questions, root)
        length = len(self.chat.joint_transcript(questions, right, root).token_ids) - len(prompt)
        # The model hardly ever writes this token, so it stops at the length.
        yield [Write(prepared.prompt(prompt), length, stop_id=FEWEST_TOKENS - 1)]

    def _right_options(self, way: str, prepared: PreparedSample) -> dict[TokenIds, int]:
        """Map each prompt of open naming on the way to the image's leaf to the option to take."""
        if way != "open":
            return {}  # requests about letters know their right option
        leaf = prepared.sample.leaf
        assert leaf is not None
        branches = self.answers.branches_to(leaf)
        return {branch.prefix_ids: index for _, branch, index in branches}


# One engine, in a process of its own


def measure_engine(folder: Path, name: EngineName, size: Size, num_turns: int) -> Iterator[Row]:
    """Measure every way on every taxonomy."""
    dtype: Any = str(size.shape.dtype).removeprefix("torch.")
    base = ModelSpec(path=str(folder / "model"), dtype=dtype)
    adapter = folder / "adapter"
    merged = base.model_copy(update={"path": str(merged_model(base, adapter))})
    fewer = base.model_copy(update={"processor_args": size.quarter})
    answers: dict[str, OpenAnswers] = {}

    def measure(
        spec: ModelSpec, ways: Sequence[str], suffix: str = "", adapter: Path | None = None
    ) -> Iterator[Row]:
        chat = load_chat(spec, subject="organism")
        args = {"max_model_len": 4096} if name == "vllm" else {}
        engine = open_engine(name, spec, chat, adapter=adapter, batch_size=16, engine_args=args)
        for tree in TREES:
            world = World(folder, tree, chat, answers.get(tree))
            answers[tree] = world.answers
            yield from world.measure(engine, ways, num_turns, suffix)
        engine.close()

    yield from measure(base, ("descent", "walk", "joint, free", "joint, forced", "open"))
    yield from measure(fewer, ("open",), ", quarter of the visual tokens")
    yield from measure(base, ("open",), ", adapter unmerged", adapter)
    yield from measure(merged, ("open",), ", adapter merged")
    if name == "transformers":
        chat = load_chat(base, subject="organism")
        one_by_one = GenerateEngine(base, chat)
        for tree in TREES:
            world = World(folder, tree, chat, answers[tree])
            yield from world.measure(one_by_one, ("descent",), 1, ", generate", only_alone=True)
        one_by_one.close()


# All of it


def write_world(folder: Path, size: Size, num_images: int, given: dict[str, Path | None]) -> None:
    """Write taxonomies, images with drawn leaves, the model, and an adapter that changes it."""
    rng, names = random.Random(0), []
    write_images(folder / "images", num_images, 28 * size.side)
    for name, tree in TREES.items():
        path, source = folder / f"{name}.json", given[name]
        if source is None:
            draw_taxonomy(tree, path)
        else:
            path.write_bytes(source.read_bytes())
        taxonomy = Taxonomy.load(path, level_names=tree.ranks)
        names += [node.name for node in taxonomy.nodes]
        leaves = rng.choices(sorted(taxonomy.leaf_ids), k=num_images)
        rows = [f"images/{i}.png\t{taxonomy[leaf].name}" for i, leaf in enumerate(leaves)]
        table = "\n".join(["image\tlabel", *rows])
        (folder / f"{name}.tsv").write_text(table, encoding="utf-8")
    write_model(folder / "model", names, size.vocabulary, 28 * size.side, size.shape)
    dtype: Any = str(size.shape.dtype).removeprefix("torch.")
    base = load_model(ModelSpec(path=str(folder / "model"), dtype=dtype))
    student = add_adapter(base, DistillSpec())
    for parameter_name, parameter in student.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=1e-3)
    student.save_pretrained(str(folder / "adapter"))
    del base, student
    free_memory()


def ratios(name: str, rows: Sequence[Row], size: Size) -> Iterator[Figure]:
    """Compare the ways on each taxonomy: how many times the time of one the other takes."""
    row_of = {(row.world, row.way): row for row in rows}

    def figure(world: str, way: str, other: str, limit: float, *, alone: bool = False) -> Figure:
        fast, slow = row_of[world, way], row_of[world, other]
        turns = zip(fast.alone, slow.alone, strict=True)
        if not alone:
            turns = zip(fast.together, slow.together, strict=True)
        quotients = [slower.compared / faster.compared for faster, slower in turns]
        spread = f"{min(quotients):.2f} to {max(quotients):.2f}"
        how = "alone" if alone else "together"
        title = f"{name}, {world}, {how}: {way} / {other} ({spread})"
        return Figure(title, median(quotients), "times", limit, is_ceiling=False)

    # Not of an image alone: how much a descent costs depends on the leaf.
    yield figure("iNat", "open", "descent", 2)
    for alone in (False, True):
        for world in TREES:
            free = size.forced_over_free
            yield figure(world, "joint, forced", "joint, free", free, alone=alone)
            # As many steps, and up to a tenth more tokens, because all questions are numbered.
            yield figure(world, "joint, forced", "walk", 0.85, alone=alone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a ratio falls short")
    parser.add_argument("--engines", default="transformers,vllm", help="separated by commas")
    parser.add_argument("--shape", choices=SIZES, default="tiny", help="of the model")
    parser.add_argument("--images", type=int, default=16, help="per taxonomy")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each way")
    parser.add_argument("--inat", type=Path, help="a taxonomy file in place of the drawn one")
    parser.add_argument("--cub", type=Path, help="a taxonomy file in place of the drawn one")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SIZES[options.shape]
    if options.part:
        rows = []
        for row in measure_engine(options.folder, options.part, size, options.repetitions):
            print(row, flush=True)
            rows.append(row)
        content = json.dumps([asdict(row) for row in rows])
        (options.folder / f"{options.part}.rows.json").write_text(content, encoding="utf-8")
        return
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # the merged copy goes away, too
        write_world(folder, size, options.images, {"iNat": options.inat, "CUB": options.cub})
        for name in options.engines.split(","):
            print(f"\n{name}\n{HEADER}", flush=True)
            command = [sys.executable, __file__, "--shape", options.shape, "--part", name]
            turns = ["--repetitions", str(options.repetitions)]
            subprocess.run([*command, *turns, "--folder", folder], check=True)
            content = (folder / f"{name}.rows.json").read_text("utf-8")
            rows = [Row.read(row) for row in json.loads(content)]
            figures += ratios(name, rows, size)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"\n{device}, {options.images} images a taxonomy, model shape {options.shape}")
    finish(figures, check=options.check)


if __name__ == "__main__":
    main()
