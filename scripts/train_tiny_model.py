"""Train the tiny vision-language model that ships inside the package, from random weights.

    python scripts/train_tiny_model.py --output sekd/tiny_model

The model has the architecture of Idefics3 and about a million parameters. On images of the drawn
world it learns to name what it sees (captions), to find a name in lists of lettered options and to
read names from them (matching and reading, text only), and to walk down a taxonomy one question at
a time (dialogues). It never sees several questions about an image at once, because `sekd distill`
is to teach that. Training takes about twenty minutes on two CPU cores. The seeds fix the data and
the weights.
"""

from __future__ import annotations

import functools
import itertools
import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    get_cosine_schedule_with_warmup,
)
from untrained_model import (
    CAPTION_QUESTION,
    IMAGE_TEXT,
    MATCHING_QUESTION,
    NUM_OPTIONS,
    READING_QUESTION,
    SUBJECT,
    build_model,
    build_processor,
    load_taxonomy,
)

from sekd.data import toyworld
from sekd.data.questions import Question, labelled_questions
from sekd.data.taxonomy import Node, Taxonomy
from sekd.models import prompts

logger = logging.getLogger(__name__)

NUM_IMAGES_PER_LEAF = 150


@dataclass(frozen=True)
class Example:
    """One training sequence.

    Attributes:
        kind: name of the method of :class:`ExampleGenerator` that writes such examples.
        pieces: each text, and whether its tokens are targets.
        image: index of the image, or ``None``.
    """

    kind: str
    pieces: list[tuple[str, bool]]
    image: int | None = None


@dataclass(frozen=True)
class Phase:
    """A number of steps with the same mix of examples.

    Attributes:
        shares: method of :class:`ExampleGenerator` -> its share in percent.
    """

    num_steps: int
    batch_size: int
    shares: dict[str, int]


@dataclass(frozen=True)
class Schedule:
    """Phases under one learning-rate schedule, with images drawn from their own seed."""

    phases: tuple[Phase, ...]
    learning_rate: float
    seed: int

    @property
    def num_steps(self) -> int:
        return sum(phase.num_steps for phase in self.phases)


# Finding a name among the options takes longest to learn: the skill appears suddenly, after about
# ten thousand examples of it, and nothing else is learned before. So most of the first phase trains
# it, in batches twice as large, which fit because these examples are short. Several lists at once
# would delay it, so they come last.
SCHEDULES = (
    Schedule(
        phases=(
            Phase(1000, 64, {"caption": 25, "matching": 75}),
            Phase(2600, 32, {"caption": 12, "matching": 8, "dialogue": 80}),
        ),
        learning_rate=1e-3,
        seed=0,
    ),
    Schedule(
        phases=(
            Phase(900, 32, {"caption": 10, "matching_in_lists": 15, "reading": 20, "dialogue": 55}),
        ),
        learning_rate=5e-4,
        seed=1,
    ),
)


def _answer(question: Question) -> str:
    letter = question.letters[question.options.index(question.truth)]
    return letter + prompts.answer_suffix(question.truth)


def _matching_example(question: Question, lists: str) -> Example:
    text = f"{MATCHING_QUESTION} {question.truth.name}?\n{lists}"
    return _text_example("matching", text, _answer(question))


def _text_example(kind: str, text: str, answer: str) -> Example:
    prompt = f"<bos><user>{text}<end_of_utterance><assistant>"
    return Example(kind, [(prompt, False), (f"{answer}<end_of_utterance>", True)])


class ExampleGenerator:
    """Draws images and writes training sequences about them."""

    def __init__(self, worlds: Sequence[toyworld.World], num_images_per_leaf: int, seed: int):
        self.rng = random.Random(seed)
        self.worlds = worlds
        self.taxonomies = [load_taxonomy(world) for world in worlds]
        self.leaves = [(w, leaf) for w, world in enumerate(worlds) for leaf in world.leaves]
        self.num_images_per_leaf = num_images_per_leaf
        image_rng = random.Random(f"pictures:{seed}")
        self.images = np.stack(
            [
                np.asarray(toyworld.draw(worlds[w], leaf, image_rng)).transpose(2, 0, 1)
                for w, leaf in self.leaves
                for _ in range(num_images_per_leaf)
            ]
        )

    def _pick(self) -> tuple[int, Taxonomy, Node]:
        """Return the index of a random image, its taxonomy and its leaf."""
        leaf_index = self.rng.randrange(len(self.leaves))
        w, leaf = self.leaves[leaf_index]
        offset = self.rng.randrange(self.num_images_per_leaf)
        image = leaf_index * self.num_images_per_leaf + offset
        return image, self.taxonomies[w], self.taxonomies[w].leaf(self.worlds[w].path(leaf)[-1])

    def caption(self) -> Example:
        image, taxonomy, leaf = self._pick()
        lines = [f"{node.rank}: {node.name}" for node in (taxonomy.root, *taxonomy.path(leaf))]
        return Example(
            "caption",
            [
                (f"<bos><user>{IMAGE_TEXT}{CAPTION_QUESTION}<end_of_utterance><assistant>", False),
                ("\n".join(lines) + "<end_of_utterance>", True),
            ],
            image,
        )

    def _questions(self, taxonomy: Taxonomy, leaf: Node):
        return labelled_questions(
            taxonomy,
            leaf,
            sample_id=str(self.rng.getrandbits(64)),
            distractors=self.rng.choice(("random", "siblings")),
            num_options=NUM_OPTIONS,
            seed=0,
        )

    def matching(self) -> Example:
        """Ask which letter has this name, in one list of options."""
        _, taxonomy, leaf = self._pick()
        question = self.rng.choice(self._questions(taxonomy, leaf))
        return _matching_example(question, prompts.option_lines(question))

    def matching_in_lists(self) -> Example:
        """Ask which letter has this name, in one to four lists of options, one for each level."""
        _, taxonomy, leaf = self._pick()
        questions = self._questions(taxonomy, leaf)
        chosen = self.rng.sample(questions, self.rng.randint(1, len(questions)))
        lists = sorted(chosen, key=lambda question: question.level)
        return _matching_example(chosen[0], "\n".join(map(prompts.numbered_question, lists)))

    def reading(self) -> Example:
        """Ask which names have these letters, in one list of options for each level."""
        _, taxonomy, leaf = self._pick()
        questions = self._questions(taxonomy, leaf)
        chosen = set(self.rng.sample(range(len(questions)), self.rng.randint(1, len(questions))))
        chosen_questions = [
            replace(question, truth=self.rng.choice(question.options))
            for index, question in enumerate(questions)
            if index in chosen
        ]
        letters = ", ".join(
            f"{question.rank} {_answer(question)[0]}" for question in chosen_questions
        )
        lists = "\n".join(map(prompts.numbered_question, questions))
        text = f"{READING_QUESTION} {letters}?\n{lists}"
        lines = [
            f"{prompts.answer_prefix(question)} {_answer(question)}"
            for question in chosen_questions
        ]
        return _text_example("reading", text, "\n".join(lines))

    def dialogue(self) -> Example:
        image, taxonomy, leaf = self._pick()
        pieces = []
        for question in self._questions(taxonomy, leaf):
            if question.level == 1:
                text = prompts.single_question(question, [taxonomy.root], SUBJECT)
                head = f"<bos><user>{IMAGE_TEXT}"
            else:
                text, head = prompts.next_question(question), "<user>"
            pieces += [
                (f"{head}{text}<end_of_utterance><assistant>", False),
                (f"{_answer(question)}<end_of_utterance>", True),
            ]
        return Example("dialogue", pieces, image)

    def batches(self, schedule: Schedule) -> Iterator[list[Example]]:
        """Yield the batches of a schedule, each sorted by kind of example."""
        for phase in schedule.phases:
            for _ in range(phase.num_steps):
                writers = self.rng.choices(
                    [getattr(self, kind) for kind in phase.shares],
                    list(phase.shares.values()),
                    k=phase.batch_size,
                )
                yield sorted((write() for write in writers), key=lambda example: example.kind)


def collate(
    examples: Sequence[Example], generator: ExampleGenerator, encode, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Return right-padded ``input_ids`` and ``labels`` (int64, batch x length) and images."""
    rows = []
    for example in examples:
        ids = [token for text, _ in example.pieces for token in encode(text)]
        labels = [
            token if is_target else -100
            for text, is_target in example.pieces
            for token in encode(text)
        ]
        rows.append((ids, labels))
    length = max(len(ids) for ids, _ in rows)
    batch = {
        "input_ids": torch.tensor([ids + [pad_token_id] * (length - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in rows]),
    }
    images = [example.image for example in examples if example.image is not None]
    if images:
        pixels = torch.from_numpy(generator.images[images]).float().div(127.5).sub(1)
        batch["pixel_values"] = pixels.unsqueeze(1)
    return batch


def loss_of(
    model: Idefics3ForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return the summed cross-entropy over the target tokens; only their logits are computed."""
    labels = batch.pop("labels")[:, 1:]
    hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1]
    is_target = labels != -100
    return cross_entropy(model.lm_head(hidden[is_target]), labels[is_target], reduction="sum")


def train(
    model: Idefics3ForConditionalGeneration,
    schedule: Schedule,
    generator: ExampleGenerator,
    processor: Idefics3Processor,
) -> None:
    """Train the model for one schedule."""
    encode = functools.lru_cache(1 << 16)(
        lambda text: processor.tokenizer.encode(text, add_special_tokens=False)
    )
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=schedule.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    lr_scheduler = get_cosine_schedule_with_warmup(optimizer, 200, schedule.num_steps)
    started, mean_loss = time.monotonic(), None
    for step, examples in enumerate(generator.batches(schedule), start=1):
        batches = [
            collate(list(group), generator, encode, processor.tokenizer.pad_token_id)
            for _, group in itertools.groupby(examples, key=lambda example: example.kind)
        ]
        num_targets = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = loss_of(model, batch) / num_targets
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        mean_loss = total if mean_loss is None else 0.98 * mean_loss + 0.02 * total
        if step % 100 == 0:
            seconds = (time.monotonic() - started) / step
            logger.info(
                "step %d/%d loss %.4f, %.3f s/step", step, schedule.num_steps, mean_loss, seconds
            )


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    """Train the tiny model and write a checkpoint that transformers and vLLM load by path."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    worlds = list(toyworld.WORLDS.values())
    processor = build_processor(worlds)
    model = build_model(processor.tokenizer)
    logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    for schedule in SCHEDULES:
        generator = ExampleGenerator(worlds, NUM_IMAGES_PER_LEAF, schedule.seed)
        train(model, schedule, generator, processor)
    model.eval().save_pretrained(output)
    processor.save_pretrained(output)


if __name__ == "__main__":
    main()
