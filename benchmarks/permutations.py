"""Measure what showing the options in several orders does to the base model of the drawn world.

    python benchmarks/permutations.py [--images 1000] [--svg docs/images/permutations.svg]

Each question of the teacher's dialogue is asked once in each of the four rotations of its options.
The answers of one, two or all four orders follow from those. The letter bias is the standard
deviation, in points and over the four letters, of the accuracy on questions whose right option has
that letter. The disagreement is the share of questions for which two first rotations lead to
different answers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sekd.config import DatasetSpec, ModelSpec
from sekd.data import toyworld
from sekd.data.samples import Dataset
from sekd.engines import Ask, Conversation, ask, open_engine
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.stages.prepare import PreparedSample, prepare_samples

NUM_OPTIONS = 4
TINY = Path(toyworld.__file__).parents[1] / "tiny_model"


@dataclass(frozen=True)
class RotatedAnswers:
    """The answers to one question.

    Attributes:
        probabilities: float [rotation, option]; options in the order before any rotation.
        truth: index of the right option.
    """

    probabilities: np.ndarray
    truth: int


def all_orders(
    chat: Chat, dataset: Dataset, prepared: PreparedSample
) -> Conversation[list[RotatedAnswers]]:
    answered: list[RotatedAnswers] = []
    turn, choice = None, 0
    for question in prepared.questions or ():
        options = question.options
        shifts = range(len(options))
        turns = []
        for shift in shifts:
            order = replace(question, options=(*options[shift:], *options[:shift]))
            if turn is None:
                turns.append(chat.first_turn(order, [dataset.taxonomy.root]))
            else:
                turns.append(chat.next_turn(turn, choice, order))
        letters = chat.letter_ids[: len(options)]
        answers = yield from ask([Ask(prepared.prompt(turn.token_ids), letters) for turn in turns])
        shown = np.exp([answer.option_logprobs for answer in answers])
        probabilities = np.array([np.roll(shown[shift], shift) for shift in shifts])
        turn, choice = turns[0], int(probabilities[0].argmax())
        if len(options) == NUM_OPTIONS:
            assert question.truth is not None
            answered.append(RotatedAnswers(probabilities, options.index(question.truth)))
    return answered


def answers_of(answered: list[RotatedAnswers], num_orders: int, start: int) -> np.ndarray:
    """Return the answer to each question: the option with the highest mean over these orders."""
    shifts = [start + i * NUM_OPTIONS // num_orders for i in range(num_orders)]
    return np.array([question.probabilities[shifts].mean(0).argmax() for question in answered])


@dataclass(frozen=True)
class Row:
    num_orders: int
    accuracy: float
    spread: float
    disagreement: float | None


def measure(answered: list[RotatedAnswers], num_orders: int) -> Row:
    starts = range(NUM_OPTIONS // num_orders)
    answers = [answers_of(answered, num_orders, start) for start in starts]
    truth = np.array([question.truth for question in answered])
    spreads = []
    for start, answer in zip(starts, answers, strict=True):
        letter = (truth - start) % NUM_OPTIONS  # letter of the right option in the first order
        right = answer == truth
        spreads.append(np.std([right[letter == index].mean() for index in range(NUM_OPTIONS)]))
    pairs = [(a != b).mean() for i, a in enumerate(answers) for b in answers[:i]]
    return Row(
        num_orders,
        100 * float(np.mean([answer == truth for answer in answers])),
        100 * float(np.mean(spreads)),
        100 * float(np.mean(pairs)) if pairs else None,
    )


def ask_all(world: toyworld.World, num_images: int, folder: Path) -> list[RotatedAnswers]:
    toyworld.write_dataset(world, folder / world.name, num_images=num_images, seed=77)
    spec = DatasetSpec(
        images=folder / world.name / "images",
        taxonomy=folder / world.name / "taxonomy.json",
        level_names=toyworld.RANKS,
    )
    dataset = Dataset.load(world.name, spec)
    model = ModelSpec(path=str(TINY), dtype="float32")
    chat = Chat(load_processor(model), subject="organism")
    engine = open_engine("transformers", model, chat, batch_size=64, engine_args={})

    def conversations() -> Iterator[Conversation[list[RotatedAnswers]]]:
        for prepared in prepare_samples(dataset, dataset.samples):
            assert isinstance(prepared, PreparedSample)
            yield all_orders(chat, dataset, prepared)

    answered = [answers for result in engine.run(conversations()) for answers in result]
    engine.close()
    return answered


def draw(rows: dict[str, list[Row]]) -> str:
    """Draw two panels of bars, readable on a light and a dark background."""
    panels = (
        ("letter bias, points", "spread"),
        ("answers that the start changes, %", "disagreement"),
    )
    parts = []
    for number, (title, name) in enumerate(panels):
        left = 20 + 340 * number
        most = max(getattr(row, name) or 0 for world_rows in rows.values() for row in world_rows)
        parts.append(f'<text x="{left}" y="22" class="title">{title}</text>')
        y = 44
        for world, world_rows in rows.items():
            parts.append(f'<text x="{left}" y="{y}">{world}</text>')
            for row in world_rows:
                value = getattr(row, name)
                y += 22
                width = 190 * (value or 0) / most
                orders = f"{row.num_orders} order{'s' if row.num_orders > 1 else ''}"
                shown = "the same by construction" if value is None else f"{value:.2f}"
                parts += [
                    f'<text x="{left + 56}" y="{y}" text-anchor="end" class="soft">{orders}</text>',
                    f'<rect x="{left + 64}" y="{y - 11}" width="{width:.1f}" height="13" rx="2"/>',
                    f'<text x="{left + 70 + width:.1f}" y="{y}">{shown}</text>',
                ]
            y += 28
    style = (
        "text{font:13px system-ui,sans-serif;fill:#333} .title{font-weight:600} .soft{fill:#777} "
        "rect{fill:#3b82c4} @media(prefers-color-scheme:dark){text{fill:#ddd} .soft{fill:#999}}"
    )
    alt = "Bias towards letters with one, two and four orders of the options"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {y}" role="img" '
        f'aria-label="{alt}"><style>{style}</style>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="per taxonomy")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    rows: dict[str, list[Row]] = defaultdict(list)
    print(
        "| taxonomy | orders | right % | letter bias, points | answers that the start changes, % |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for world in toyworld.WORLDS.values():
            answered = ask_all(world, options.images, Path(folder))
            for num_orders in (1, 2, 4):
                row = measure(answered, num_orders)
                rows[world.name].append(row)
                changed = "0 (all four)" if row.disagreement is None else f"{row.disagreement:.2f}"
                print(
                    f"| {world.name} | {num_orders} | {row.accuracy:.2f} | {row.spread:.2f} | "
                    f"{changed} |"
                )
    if options.svg:
        options.svg.write_text(draw(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
