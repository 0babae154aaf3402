"""Train the tiny vision-language model that ships inside the package, from random weights.

    python scripts/train_tiny_model.py --output sekd/tiny_model

The model has the architecture of Idefics3 and about a million parameters. It learns to find a name
in lists of two to six lettered options and to read names from them (matching and reading, text
only). About images of the two drawn taxonomies it is asked for one level at a time: to name it
(captions), to choose its letter (single questions), and to walk down the taxonomy (dialogues). It
learns the format of answers about all levels at once, with options (joint) and without (naming), on
a third taxonomy alone, because `sekd distill` is to teach how to answer so about the others.
Training takes about half an hour on one CPU core. The seeds fix the data and the weights.
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
    READING_QUESTION,
    SUBJECT,
    build_model,
    build_processor,
    load_taxonomy,
)

from sekd.data import toyworld
from sekd.data.questions import Question
from sekd.data.taxonomy import Node, Taxonomy
from sekd.models import prompts

logger = logging.getLogger(__name__)

ALL_WORLDS = (*toyworld.WORLDS.values(), toyworld.PRACTICE)
NUM_IMAGES_PER_LEAF = 150
NUM_OPTIONS = (2, 3, 3, 4, 4, 5, 6)


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
            Phase(1800, 32, {"caption": 12, "matching": 8, "single": 15, "dialogue": 65}),
        ),
        learning_rate=1e-3,
        seed=0,
    ),
    Schedule(
        phases=(
            Phase(
                1900,
                32,
                {
                    "caption": 8,
                    "matching_in_lists": 10,
                    "reading": 8,
                    "single": 10,
                    "dialogue": 46,
                    "joint": 10,
                    "naming": 8,
                },
            ),
        ),
        learning_rate=1e-3,
        seed=1,
    ),
)


def _answer(question: Question) -> str:
    letter = question.letters[question.options.index(question.truth)]
    return letter + prompts.answer_suffix(question.truth)


def _matching_example(question: Question, lists: str) -> Example:
    text = f"{MATCHING_QUESTION} {question.truth.name}?\n{lists}"
    return _text_example("matching", text, _answer(question))


def _image_example(kind: str, text: str, answer: str, image: int) -> Example:
    return replace(_text_example(kind, IMAGE_TEXT + text, answer), image=image)


def _text_example(kind: str, text: str, answer: str) -> Example:
    prompt = f"<bos><user>{text}<end_of_utterance><assistant>"
    return Example(kind, [(prompt, False), (f"{answer}<end_of_utterance>", True)])


class ExampleGenerator:
    """Draws images and writes training sequences about them."""

    def __init__(self, num_images_per_leaf: int, seed: int):
        self.rng = random.Random(seed)
        self.leaves = [(world, leaf) for world in ALL_WORLDS for leaf in world.leaves]
        self.num_practice = sum(world is toyworld.PRACTICE for world, _ in self.leaves)
        self.taxonomies = {world.name: load_taxonomy(world) for world in ALL_WORLDS}
        self.num_images_per_leaf = num_images_per_leaf
        image_rng = random.Random(f"pictures:{seed}")
        self.images = np.stack(
            [
                np.asarray(toyworld.draw(world, leaf, image_rng)).transpose(2, 0, 1)
                for world, leaf in self.leaves
                for _ in range(num_images_per_leaf)
            ]
        )

    def _pick(
        self, *, evaluated: bool = True, practice: bool = False
    ) -> tuple[int, Taxonomy, Node]:
        """Return the index of a random image of these worlds, its taxonomy and its leaf."""
        first_practice = len(self.leaves) - self.num_practice
        start = 0 if evaluated else first_practice
        index = self.rng.randrange(start, len(self.leaves) if practice else first_practice)
        world, leaf = self.leaves[index]
        image = index * self.num_images_per_leaf + self.rng.randrange(self.num_images_per_leaf)
        taxonomy = self.taxonomies[world.name]
        return image, taxonomy, taxonomy.leaf(world.path(leaf)[-1])

    def caption(self) -> Example:
        """Describe the image by one name of its path, of any level."""
        image, taxonomy, leaf = self._pick()
        node = self.rng.choice((taxonomy.root, *taxonomy.path(leaf)))
        return _image_example("caption", CAPTION_QUESTION, prompts.open_line(node), image)

    def _questions(self, taxonomy: Taxonomy, leaf: Node) -> list[Question]:
        """Ask about each level, with wrong options of one kind, and their number at random."""
        kind = self.rng.choice(("children", "siblings", "random"))
        questions = []
        for node in taxonomy.path(leaf):
            siblings = [] if kind == "random" else taxonomy.siblings(node)
            peers = [] if kind == "children" else taxonomy.peers(node)
            others = [peer for peer in peers if peer is not node and peer not in siblings]
            num_wrong = self.rng.choice(NUM_OPTIONS) - 1
            wrong = self.rng.sample(siblings, min(num_wrong, len(siblings)))
            wrong += self.rng.sample(others, min(num_wrong - len(wrong), len(others)))
            options = self.rng.sample([node, *wrong], 1 + len(wrong))
            questions.append(Question(node.depth, tuple(options), node))
        return questions

    def matching(self) -> Example:
        """Ask which letter has this name, in one list of options."""
        _, taxonomy, leaf = self._pick(practice=True)
        question = self.rng.choice(self._questions(taxonomy, leaf))
        return _matching_example(question, prompts.option_lines(question))

    def matching_in_lists(self) -> Example:
        """Ask which letter has this name, in one to four lists of options, one for each level."""
        _, taxonomy, leaf = self._pick(practice=True)
        questions = self._questions(taxonomy, leaf)
        chosen = self.rng.sample(questions, self.rng.randint(1, len(questions)))
        lists = sorted(chosen, key=lambda question: question.level)
        return _matching_example(chosen[0], "\n".join(map(prompts.numbered_question, lists)))

    def reading(self) -> Example:
        """Ask which names have these letters, in one list of options for each level."""
        _, taxonomy, leaf = self._pick(practice=True)
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
        """Walk down the taxonomy, one question after another."""
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

    def single(self) -> Example:
        """Ask about one level, with nothing known or all levels above."""
        image, taxonomy, leaf = self._pick()
        question = self.rng.choice(self._questions(taxonomy, leaf))
        path = [taxonomy.root, *taxonomy.path(leaf)]
        facts = path[: question.level] if self.rng.random() < 0.5 else []
        text = prompts.single_question(question, facts, SUBJECT)
        return _image_example("single", text, _answer(question), image)

    def joint(self) -> Example:
        """Ask about all levels at once."""
        image, taxonomy, leaf = self._pick(evaluated=False, practice=True)
        questions = self._questions(taxonomy, leaf)
        text = prompts.joint_questions(questions, taxonomy.root, SUBJECT)
        lines = [f"{prompts.answer_prefix(each)} {_answer(each)}" for each in questions]
        return _image_example("joint", text, "\n".join(lines), image)

    def naming(self) -> Example:
        """Ask for the names of all levels, without options."""
        image, taxonomy, leaf = self._pick(evaluated=False, practice=True)
        path = taxonomy.path(leaf)
        text = prompts.open_question(taxonomy.ranks, SUBJECT)
        return _image_example("naming", text, "\n".join(map(prompts.open_line, path)), image)

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
    started = time.process_time()
    mean_losses: dict[str, float] = {}
    for step, examples in enumerate(generator.batches(schedule), start=1):
        pieces = itertools.chain.from_iterable(each.pieces for each in examples)
        num_targets = sum(len(encode(text)) for text, is_target in pieces if is_target)
        for kind, group in itertools.groupby(examples, key=lambda example: example.kind):
            batch = collate(list(group), generator, encode, processor.tokenizer.pad_token_id)
            num_targets_of_kind = int((batch["labels"] != -100).sum())
            loss = loss_of(model, batch)
            (loss / num_targets).backward()
            mean = loss.item() / num_targets_of_kind
            mean_losses[kind] = 0.95 * mean_losses.get(kind, mean) + 0.05 * mean
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            seconds = (time.process_time() - started) / step
            losses = ", ".join(f"{kind} {loss:.3f}" for kind, loss in mean_losses.items())
            logger.info(
                "step %d/%d, %.3f CPU s/step; %s", step, schedule.num_steps, seconds, losses
            )


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    """Train the tiny model and write a checkpoint that transformers and vLLM load by path."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    processor = build_processor(ALL_WORLDS)
    model = build_model(processor.tokenizer)
    logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    for schedule in SCHEDULES:
        generator = ExampleGenerator(NUM_IMAGES_PER_LEAF, schedule.seed)
        train(model, schedule, generator, processor)
    model.eval().save_pretrained(output)
    processor.save_pretrained(output)


if __name__ == "__main__":
    main()
