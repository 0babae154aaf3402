"""Train the tiny vision-language model that ships inside the package, from nothing.

    python scripts/train_tiny_model.py --output sekd/tiny_model

An Idefics3-shaped model of about a million parameters learns, on pictures drawn for it, to name
what it sees (captions), to find a name in lists of lettered options and to read one out (matching
and reading, text only), and to walk down a taxonomy one question at a time (dialogues). It is never
asked several questions about a picture at once: that is what `sekd distill` is for. Takes some
twenty minutes on two CPU cores; the seeds fix the data and the weights.
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
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)

from sekd.data import toyworld
from sekd.data.questions import LETTERS, Question, labelled_questions
from sekd.data.taxonomy import Node, Taxonomy
from sekd.models import prompts

logger = logging.getLogger(__name__)

SUBJECT = "organism"
NUM_OPTIONS = 4
NUM_PICTURES_PER_LEAF = 150
PATCH_SIZE, PIXEL_SHUFFLE = 14, 2
NUM_IMAGE_TOKENS = (toyworld.IMAGE_SIZE // PATCH_SIZE // PIXEL_SHUFFLE) ** 2
SPECIAL_TOKENS = (
    "<pad>", "<unk>", "<bos>", "<user>", "<assistant>",
    "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>",
)  # fmt: skip
CAPTION_QUESTION = f"Describe the {SUBJECT} in the image."
MATCHING_QUESTION = "Which letter is"
READING_QUESTION = "Which name is"
CHAT_TEMPLATE = (
    "<bos>{% for message in messages %}<{{ message['role'] }}>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
IMAGE_TEXT = (
    "<fake_token_around_image><global-img>"
    + "<image>" * NUM_IMAGE_TOKENS
    + "<fake_token_around_image>"
)


def build_processor(worlds: Sequence[toyworld.World]) -> Idefics3Processor:
    """A word-level tokenizer over the worlds' names and the words of the prompts."""
    words = {"\n", *LETTERS, *"0123456789"}
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"),
            pre_tokenizers.Split(Regex(r"\n|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]"), "isolated"),
        ]
    )
    for world in worlds:
        taxonomy = load_taxonomy(world)
        leaf = taxonomy.path(taxonomy.leaf(world.path((0, 0, 0, 0))[-1]))[-1]
        questions = labelled_questions(
            taxonomy, leaf, sample_id="", distractors="random", num_options=NUM_OPTIONS, seed=0
        )
        texts = [
            *world.names.values(),
            prompts.single_question(questions[0], [taxonomy.root], SUBJECT),
            prompts.single_question(questions[0], [], SUBJECT),
            prompts.next_question(questions[0]),
            prompts.joint_questions(questions, taxonomy.root, SUBJECT),
            *(rank + ":." for rank in toyworld.RANKS),
            MATCHING_QUESTION,
            READING_QUESTION,
            CAPTION_QUESTION,
            "object item species animal plant food level",
        ]
        for text in texts:
            words |= {word for word, _ in splitter.pre_tokenize_str(text)}
    vocabulary = {word: i for i, word in enumerate([*SPECIAL_TOKENS, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<end_of_utterance>",
        extra_special_tokens=list(SPECIAL_TOKENS[3:]),
        clean_up_tokenization_spaces=False,
    )
    side = {"longest_edge": toyworld.IMAGE_SIZE}
    image_processor = Idefics3ImageProcessor(
        size=side,
        max_image_size=side,
        do_image_splitting=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics3Processor(
        image_processor, fast, image_seq_len=NUM_IMAGE_TOKENS, chat_template=CHAT_TEMPLATE
    )


def load_taxonomy(world: toyworld.World) -> Taxonomy:
    return Taxonomy.from_paths(world.taxonomy(), level_names=toyworld.RANKS, source=world.name)


def build_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=PIXEL_SHUFFLE,
        tie_word_embeddings=True,
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": toyworld.IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    return Idefics3ForConditionalGeneration(config)


@dataclass(frozen=True)
class Lesson:
    """One training sequence: (text, whether it is learned) pieces, and a picture or none."""

    kind: str
    pieces: list[tuple[str, bool]]
    picture: int | None = None


@dataclass(frozen=True)
class Phase:
    """So many steps of the same mix: method of :class:`School` -> its share in percent."""

    num_steps: int
    batch_size: int
    lessons: dict[str, int]


@dataclass(frozen=True)
class Term:
    """Phases under one learning-rate schedule, with pictures of their own."""

    phases: tuple[Phase, ...]
    learning_rate: float
    seed: int

    @property
    def num_steps(self) -> int:
        return sum(phase.num_steps for phase in self.phases)


# To find a name among the options is what takes long: it appears of a sudden, after some ten
# thousand lessons of it, and nothing else is learned before. So it gets most of the start, in
# batches twice as large, which these short lessons allow. Several lists at once would put that
# moment off, so they come last.
TERMS = (
    Term(
        phases=(
            Phase(1000, 64, {"caption": 25, "matching": 75}),
            Phase(2600, 32, {"caption": 12, "matching": 8, "dialogue": 80}),
        ),
        learning_rate=1e-3,
        seed=0,
    ),
    Term(
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


def _matching_lesson(question: Question, asked: str) -> Lesson:
    text = f"{MATCHING_QUESTION} {question.truth.name}?\n{asked}"
    return _text_lesson("matching", text, _answer(question))


def _text_lesson(kind: str, text: str, answer: str) -> Lesson:
    prompt = f"<bos><user>{text}<end_of_utterance><assistant>"
    return Lesson(kind, [(prompt, False), (f"{answer}<end_of_utterance>", True)])


class School:
    """Draws pictures and writes lessons about them."""

    def __init__(self, worlds: Sequence[toyworld.World], num_pictures_per_leaf: int, seed: int):
        self.rng = random.Random(seed)
        self.worlds = worlds
        self.taxonomies = [load_taxonomy(world) for world in worlds]
        self.leaves = [(w, leaf) for w, world in enumerate(worlds) for leaf in world.leaves]
        self.num_pictures_per_leaf = num_pictures_per_leaf
        drawing = random.Random(f"pictures:{seed}")
        self.pictures = np.stack(
            [
                np.asarray(toyworld.draw(worlds[w], leaf, drawing)).transpose(2, 0, 1)
                for w, leaf in self.leaves
                for _ in range(num_pictures_per_leaf)
            ]
        )

    def _pick(self) -> tuple[int, Taxonomy, Node]:
        index = self.rng.randrange(len(self.leaves))
        w, leaf = self.leaves[index]
        picture = index * self.num_pictures_per_leaf + self.rng.randrange(
            self.num_pictures_per_leaf
        )
        return picture, self.taxonomies[w], self.taxonomies[w].leaf(self.worlds[w].path(leaf)[-1])

    def caption(self) -> Lesson:
        picture, taxonomy, leaf = self._pick()
        lines = [f"{node.rank}: {node.name}" for node in (taxonomy.root, *taxonomy.path(leaf))]
        return Lesson(
            "caption",
            [
                (f"<bos><user>{IMAGE_TEXT}{CAPTION_QUESTION}<end_of_utterance><assistant>", False),
                ("\n".join(lines) + "<end_of_utterance>", True),
            ],
            picture,
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

    def matching(self) -> Lesson:
        """Which letter has this name, in one list of options."""
        _, taxonomy, leaf = self._pick()
        question = self.rng.choice(self._questions(taxonomy, leaf))
        return _matching_lesson(question, prompts.option_lines(question))

    def matching_in_lists(self) -> Lesson:
        """The same in one to four lists, one to a level."""
        _, taxonomy, leaf = self._pick()
        questions = self._questions(taxonomy, leaf)
        chosen = self.rng.sample(questions, self.rng.randint(1, len(questions)))
        lists = sorted(chosen, key=lambda question: question.level)
        return _matching_lesson(chosen[0], "\n".join(map(prompts.numbered_question, lists)))

    def reading(self) -> Lesson:
        """Which names have these letters: the same lists, read the other way."""
        _, taxonomy, leaf = self._pick()
        questions = self._questions(taxonomy, leaf)
        chosen = set(self.rng.sample(range(len(questions)), self.rng.randint(1, len(questions))))
        read = [
            replace(question, truth=self.rng.choice(question.options))
            for index, question in enumerate(questions)
            if index in chosen
        ]
        asked = ", ".join(f"{question.rank} {_answer(question)[0]}" for question in read)
        lists = "\n".join(map(prompts.numbered_question, questions))
        text = f"{READING_QUESTION} {asked}?\n{lists}"
        lines = [f"{prompts.answer_prefix(question)} {_answer(question)}" for question in read]
        return _text_lesson("reading", text, "\n".join(lines))

    def dialogue(self) -> Lesson:
        picture, taxonomy, leaf = self._pick()
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
        return Lesson("dialogue", pieces, picture)

    def batches(self, term: Term) -> Iterator[list[Lesson]]:
        """The lessons of a term, each batch sorted by kind."""
        for phase in term.phases:
            for _ in range(phase.num_steps):
                lessons = self.rng.choices(
                    [getattr(self, kind) for kind in phase.lessons],
                    list(phase.lessons.values()),
                    k=phase.batch_size,
                )
                yield sorted((write() for write in lessons), key=lambda lesson: lesson.kind)


def collate(
    lessons: Sequence[Lesson], school: School, encode, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Right-padded ``input_ids`` and ``labels`` (int64, batch x length) and normalised pictures."""
    rows = []
    for lesson in lessons:
        ids = [token for text, _ in lesson.pieces for token in encode(text)]
        labels = [
            token if learned else -100 for text, learned in lesson.pieces for token in encode(text)
        ]
        rows.append((ids, labels))
    length = max(len(ids) for ids, _ in rows)
    batch = {
        "input_ids": torch.tensor([ids + [pad_token_id] * (length - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in rows]),
    }
    pictures = [lesson.picture for lesson in lessons if lesson.picture is not None]
    if pictures:
        pixels = torch.from_numpy(school.pictures[pictures]).float().div(127.5).sub(1)
        batch["pixel_values"] = pixels.unsqueeze(1)
    return batch


def loss_of(
    model: Idefics3ForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Summed cross-entropy over the learned tokens, logits computed for those alone."""
    labels = batch.pop("labels")[:, 1:]
    hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1]
    learned = labels != -100
    return cross_entropy(model.lm_head(hidden[learned]), labels[learned], reduction="sum")


def study(
    model: Idefics3ForConditionalGeneration,
    term: Term,
    school: School,
    processor: Idefics3Processor,
) -> None:
    """Train the model for a term."""
    encode = functools.lru_cache(1 << 16)(
        lambda text: processor.tokenizer.encode(text, add_special_tokens=False)
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=term.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, 200, term.num_steps)
    started, running = time.monotonic(), None
    for step, lessons in enumerate(school.batches(term), start=1):
        batches = [
            collate(list(group), school, encode, processor.tokenizer.pad_token_id)
            for _, group in itertools.groupby(lessons, key=lambda lesson: lesson.kind)
        ]
        num_learned = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = loss_of(model, batch) / num_learned
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        running = total if running is None else 0.98 * running + 0.02 * total
        if step % 100 == 0:
            pace = (time.monotonic() - started) / step
            logger.info("step %d/%d loss %.4f, %.3f s a step", step, term.num_steps, running, pace)


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
    for term in TERMS:
        study(model, term, School(worlds, NUM_PICTURES_PER_LEAF, term.seed), processor)
    model.eval().save_pretrained(output)
    processor.save_pretrained(output)


if __name__ == "__main__":
    main()
