"""Measure answer slots: all letters of a joint reply read at once, over a reply with blanks.

    python benchmarks/answer_slots.py runs/demo/world/config.yaml [--images 200] [--adapter DIR]

The forced joint answer asks for one letter after another, each behind the lines of the answers
before it. Slots ask for all letters in one pass; what stands in the lines before a letter is then
not known. Four fillings are tried: the first option of each level, an option drawn at random, a
line without an answer ("_"), and the truth, which nobody has and which says how much the lines
matter.

As a draft the letters of one pass are written into the lines, and the next pass reads all letters
again. Up to the first letter that changed, and with it, they are those of the forced answer; this
is repeated from there until nothing changes. It is exact, and needs at most as many passes as there
are levels.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from sekd.config import RunConfig, load_config
from sekd.data.questions import Question
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Node
from sekd.engines import Ask, Conversation, Engine, ask, open_engine
from sekd.engines.metering import metered
from sekd.models.chat import Chat, TokenIds, load_chat
from sekd.stages.distill.run import finished_adapter
from sekd.stages.prepare import PreparedSample, prepare_samples

NUM_ALONE = 20
"""Images that are asked about one by one, for the latency."""


@dataclass(frozen=True)
class Chosen:
    """The letters of one sample.

    Attributes:
        sample_id: of the sample.
        choices, truth: index of an option for each level.
        num_passes: turns of the conversation; all requests of a turn are computed together.
    """

    sample_id: str
    choices: tuple[int, ...]
    truth: tuple[int, ...]
    num_passes: int


@dataclass(frozen=True)
class Reply:
    """The joint prompt of a sample, and how its reply is written."""

    chat: Chat
    root: Node
    prepared: PreparedSample

    @property
    def questions(self) -> Sequence[Question]:
        return self.prepared.questions or ()

    @property
    def truth(self) -> tuple[int, ...]:
        return tuple(question.right or 0 for question in self.questions)

    def chosen(self, choices: Sequence[int], num_passes: int) -> Chosen:
        return Chosen(self.prepared.sample.id, tuple(choices), self.truth, num_passes)

    def requests(self, lines: Sequence[int | None], start: int = 0) -> list[Ask]:
        """Ask for the letters from a level on, each behind the lines of the levels above it.

        Args:
            lines: the option that stands in each level's line; ``None`` leaves a blank.
        """
        transcript = self.chat.joint_transcript(
            self.questions, [line or 0 for line in lines], self.root
        )
        requests = []
        for index in range(start, len(self.questions)):
            ids = transcript.token_ids[: transcript.positions[index]]
            ids = self._with_blanks(ids, transcript.positions, lines[:index])
            letters = self.chat.joint_letter_ids(self.questions[index])
            options = letters[: len(self.questions[index].options)]
            requests.append(Ask(self.prepared.prompt(ids), options))
        return requests

    def _with_blanks(
        self, ids: TokenIds, positions: Sequence[int], lines: Sequence[int | None]
    ) -> TokenIds:
        """Put "_" in the place of the letter and the name of each blank line."""
        (blank,) = self.chat.encode("_")
        for index in reversed(range(len(lines))):
            if lines[index] is None:
                start = positions[index]
                end = next(
                    place
                    for place in range(start, len(ids))
                    if "\n" in self.chat.decode([ids[place]])
                )
                ids = (*ids[:start], blank, *ids[end:])
        return ids


def forced(reply: Reply) -> Conversation[Chosen]:
    choices: list[int] = []
    for index in range(len(reply.questions)):
        lines = [*choices, *[0] * (len(reply.questions) - index)]
        answers = yield from ask(reply.requests(lines, index)[:1])
        choices.append(answers[0].choice)
    return reply.chosen(choices, len(choices))


def slots(reply: Reply, lines: Sequence[int | None]) -> Conversation[Chosen]:
    answers = yield from ask(reply.requests(lines))
    return reply.chosen([answer.choice for answer in answers], 1)


def drafted(reply: Reply, lines: Sequence[int | None]) -> Conversation[Chosen]:
    """Repeat slots until no letter changes; those above ``start`` are final."""
    draft = list(lines)
    start, num_passes = 0, 0
    while start < len(draft):
        answers = yield from ask(reply.requests(draft, start))
        num_passes += 1
        read = [*draft[:start], *(answer.choice for answer in answers)]
        changed = [level for level in range(start, len(read)) if read[level] != draft[level]]
        # The first letter that changed was read behind lines that are right, so it is final, too.
        start = changed[0] + 1 if changed else len(read)
        draft = read
    return reply.chosen([choice for choice in draft if choice is not None], num_passes)


def fillings(reply: Reply) -> dict[str, list[int | None]]:
    rng = random.Random(reply.prepared.sample.id)
    drawn = [rng.randrange(len(question.options)) for question in reply.questions]
    return {
        "first option": [0] * len(drawn),
        "random option": list(drawn),
        "blank": [None] * len(drawn),
        "truth": list(reply.truth),
    }


Way = Callable[[Reply], Conversation[Chosen]]
WAYS: dict[str, Way] = {
    "forced": forced,
    **{
        f"{kind.__name__}, {name}": lambda reply, kind=kind, name=name: kind(
            reply, fillings(reply)[name]
        )
        for kind in (slots, drafted)
        for name in ("first option", "random option", "blank", "truth")
    },
}


def measure(engine: Engine, chat: Chat, dataset: Dataset) -> None:
    replies = [
        Reply(chat, dataset.taxonomy.root, prepared)
        for prepared in prepare_samples(dataset, dataset.samples, chat.used_pixels)
        if isinstance(prepared, PreparedSample)
    ]
    list(engine.run(map(forced, replies[:8])))  # so that kernels are chosen
    want: list[Chosen] = []
    titles = ("HCA %", "levels %", "as forced %", "passes", "tokens", "s", "ms alone")
    print(f"\n{dataset.name:26}" + "".join(f"{title:>12}" for title in titles))
    for name, way in WAYS.items():
        started = time.monotonic()
        ended = list(engine.run(metered(way(reply)) for reply in replies))
        seconds = time.monotonic() - started
        alone = []
        for reply in replies[:NUM_ALONE]:
            started = time.monotonic()
            list(engine.run([way(reply)]))
            alone.append(1000 * (time.monotonic() - started))
        by_sample = {chosen.sample_id: chosen for chosen, _ in ended}
        got = [by_sample[reply.prepared.sample.id] for reply in replies]
        want = want or got
        right = np.array([np.array(each.choices) == each.truth for each in got])
        figures = (
            100 * right.all(1).mean(),
            100 * right.mean(),
            100 * np.mean([a.choices == b.choices for a, b in zip(got, want, strict=True)]),
            np.mean([each.num_passes for each in got]),
            np.mean([cost.prefill_tokens for _, cost in ended]),
            seconds,
            median(alone),
        )
        print(f"{name:26}" + "".join(f"{figure:12.2f}" for figure in figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--engine", default="transformers")
    options = parser.parse_args()
    config: RunConfig = load_config(options.config)
    adapter = options.adapter or finished_adapter(config)
    if adapter is None:
        parser.error("the config has no finished student; give --adapter")
    chat = load_chat(config.model, subject=config.data[config.evaluate.datasets[0]].subject)
    engine = open_engine(
        options.engine, config.model, chat, adapter=adapter, batch_size=64, engine_args={}
    )
    for name in config.evaluate.datasets:
        dataset = Dataset.load(name, config.dataset(name, "evaluate.datasets"))
        measure(engine, chat, dataset.draw(options.images, seed=0))
    engine.close()


if __name__ == "__main__":
    main()
