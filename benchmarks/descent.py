"""Measure what groups of options do to the answer about a node with many children.

    python benchmarks/descent.py [--images 200] [--model sekd/tiny_model] [--check]

Levels of the drawn world are merged, so that a family has 9 species and an order 26. Each image is
asked about the species below its own family or order: in one question, which shows all of them, and
in groups of at most 2 to 13 with a final among their winners, as a descent asks. The distributions
over the children are compared: total variation distance (0 to 1, mean over images), and how often
the best child is the same. A node of 216 children, more than the alphabet has letters, has the 81
species of the world below it, those of the other world, and names of the practice world. No
question can show them all, so its groups are compared with a question that shows none: open naming,
with the probability of each name. Two ways to combine groups and final are compared as well: by
odds (what sekd does), and by the product of the winner's share and the share within its group.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from figures import Figure, finish
from numpy.typing import NDArray

from sekd.config import DatasetSpec, DescentSpec, ElicitSpec, ModelSpec
from sekd.data import branching, toyworld
from sekd.data.samples import Dataset, Sample
from sekd.data.taxonomy import Node, Taxonomy
from sekd.engines import Ask, Conversation, Engine, ask, open_engine
from sekd.engines.base import Response, Result
from sekd.engines.driver import ActiveConversation
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.models.open_naming import AnswerRange, OpenAnswers
from sekd.stages import descent as descents
from sekd.stages.prepare import PreparedSample, prepare_samples, run_conversations

TINY = Path(toyworld.__file__).parents[1] / "tiny_model"
MAX_OPTIONS = (2, 3, 4, 6, 13)
NUM_LETTERS, NUM_MANY = 26, 216
IN_ONE = DescentSpec(max_options=NUM_LETTERS)
Distribution = NDArray[np.float64]
Part: TypeAlias = tuple[Dataset, list[Sample]]
"""A dataset whose root is the node that is asked about, and the samples below it."""
Named: TypeAlias = tuple[str, dict[Node, float]]
Memory: TypeAlias = dict[tuple[str, tuple[int, ...]], Response]
"""Image and prompt -> the answer."""


@dataclass(frozen=True)
class Answers:
    """A model's answers about one image.

    Attributes:
        distribution: float [children].
        truth: index of the right child.
    """

    distribution: Distribution
    truth: int


def multiply_groups(within: Sequence[Distribution], among: Distribution) -> list[Distribution]:
    """The other way to combine groups: the winner's share times the share within its group."""
    return [share * group for group, share in zip(within, among.tolist(), strict=True)]


def merged(dataset: Dataset, depth: int) -> list[Part]:
    """Return one dataset for each node at a depth: its leaves, up to 26, are its children.

    At depth 0 all leaves are children of the root, with names that no image has.
    """
    taxonomy = dataset.taxonomy
    leaves: dict[str, list[str]] = defaultdict(list)
    paths = {
        leaf: [taxonomy.root.name, *(node.name for node in taxonomy.path(taxonomy[leaf]))]
        for leaf in taxonomy.leaf_ids
    }
    for leaf in sorted(paths):
        leaves["/".join(paths[leaf][: depth + 1])].append(leaf)
    parts = []
    for children in leaves.values():
        kept = children[:NUM_LETTERS] if depth else children
        parent = paths[kept[0]][depth]
        names = [paths[leaf][-1] for leaf in kept]
        names += [] if depth else other_names()[: NUM_MANY - len(names)]
        ranks = [toyworld.RANKS[depth], toyworld.RANKS[-1]]
        merged_taxonomy = Taxonomy.from_paths(
            {name: [parent, name] for name in names}, level_names=ranks
        )
        samples = [
            replace(sample, leaf=merged_taxonomy.leaf(paths[sample.leaf.id][-1]))
            for sample in dataset.samples
            if sample.leaf is not None and sample.leaf.id in kept
        ]
        parts.append((replace(dataset.without_quiz(), taxonomy=merged_taxonomy), samples))
    return parts


def other_names() -> list[str]:
    """Return species of the other world, and then names of the practice world."""
    species = [toyworld.UNSEEN.path(leaf)[-1] for leaf in toyworld.UNSEEN.leaves]
    practice = [name for path, name in toyworld.PRACTICE.names.items() if path]
    return [*species, *reversed(practice)]


def remembered(conversation: Conversation[Result], memory: Memory) -> Conversation[Result]:
    """Ask an engine only what was not asked before."""
    active = ActiveConversation(conversation)
    while not active.is_done:
        asked = {
            (each.prompt.image_key, each.prompt.token_ids): each
            for each in active.requests
            if isinstance(each, Ask)
        }
        new = {key: request for key, request in asked.items() if key not in memory}
        if new:
            memory |= zip(new, (yield list(new.values())), strict=True)
        active.answer([memory[key] for key in asked])
    return active.result


def ask_about(
    engine: Engine,
    chat: Chat,
    parts: Sequence[Part],
    spec: DescentSpec,
    memory: Memory | None = None,
) -> dict[str, Answers]:
    answers = {}
    memory = {} if memory is None else memory
    for dataset, samples in parts:
        truths = {sample.id: sample.leaf for sample in samples}
        for outcome in run_conversations(
            engine,
            prepare_samples(dataset, samples),
            lambda one, dataset=dataset: remembered(
                descents.descend(chat, dataset, one, spec, ElicitSpec()), memory
            ),
        ):
            assert isinstance(outcome, descents.Descent)
            (level,) = outcome.paths[0].levels
            truth = level.children.index(truths[outcome.sample_id])
            answers[outcome.sample_id] = Answers(level.probabilities, truth)
    return answers


def ask_for_names(engine: Engine, chat: Chat, parts: Sequence[Part]) -> dict[str, Answers]:
    """Ask in a question without options: how probable is each name?"""
    answers = {}
    for dataset, samples in parts:
        named = OpenAnswers(chat, dataset.taxonomy)
        children = dataset.taxonomy.children(dataset.taxonomy.root)
        index_of = {child.id: index for index, child in enumerate(children)}

        def converse(one: PreparedSample, named: OpenAnswers = named) -> Conversation[Named]:
            probabilities = yield from probabilities_of_names(named, one)
            return one.sample.id, probabilities

        truths = {sample.id: sample.leaf for sample in samples}
        for outcome in run_conversations(engine, prepare_samples(dataset, samples), converse):
            assert isinstance(outcome, tuple)
            sample_id, probability_of = outcome
            distribution = np.zeros(len(children))
            for child, probability in probability_of.items():
                distribution[index_of[child.id]] = probability
            answers[sample_id] = Answers(distribution, index_of[truths[sample_id].id])
    return answers


def probabilities_of_names(
    named: OpenAnswers, prepared: PreparedSample
) -> Conversation[dict[Node, float]]:
    """Ask at every place where names part, and multiply along each name."""
    parts, branches = [named.all], []
    for part in parts:
        if part.stop - part.start > 1:
            branches.append(named.branch(part))
            parts += branches[-1].ranges
    asked = [Ask(prepared.prompt(each.prefix_ids), each.token_ids) for each in branches]
    answers = yield from ask(asked)
    probability_of = {named.all: 1.0}
    for branch, answer in zip(branches, answers, strict=True):
        shares = np.exp(answer.option_logprobs.astype(np.float64))
        whole = AnswerRange(branch.ranges[0].start, branch.ranges[-1].stop)
        shares *= probability_of.pop(whole) / shares.sum()
        probability_of |= dict(zip(branch.ranges, shares.tolist(), strict=True))
    return {named.outcomes(part, 0)[0]: share for part, share in probability_of.items()}


@dataclass(frozen=True)
class Row:
    """A way to ask, and what is measured of it.

    Attributes:
        right: percent of the images.
        against: how far the distribution is from that of another way, and for how many percent of
            the images the best child is the same; ``None`` where it is compared with nothing.
    """

    num_children: int
    way: str
    right: float
    against: dict[str, tuple[float, float] | None]

    def __str__(self) -> str:
        cells = [
            " | " if pair is None else f"{pair[0]:.3f} | {pair[1]:.1f}"
            for pair in self.against.values()
        ]
        return f"| {self.num_children} | {self.way} | {self.right:.1f} | {' | '.join(cells)} |"


def compare(
    way: str, answers: dict[str, Answers], references: Mapping[str, dict[str, Answers] | None]
) -> Row:
    right = np.mean([each.distribution.argmax() == each.truth for each in answers.values()])
    num_children = len(next(iter(answers.values())).distribution)
    against: dict[str, tuple[float, float] | None] = {}
    for name, reference in references.items():
        against[name] = None
        if reference is not None and reference is not answers:
            pairs = [(answers[key].distribution, reference[key].distribution) for key in answers]
            distance = np.mean([0.5 * np.abs(one - other).sum() for one, other in pairs])
            same = np.mean([one.argmax() == other.argmax() for one, other in pairs])
            against[name] = float(distance), 100 * float(same)
    return Row(num_children, way, 100 * float(right), against)


def rows_of(engine: Engine, chat: Chat, parts: Sequence[Part], *, has_letters: bool) -> list[Row]:
    """Ask about the children of one kind of node in every way."""
    in_one = ask_about(engine, chat, parts, IN_ONE) if has_letters else None
    names = ask_for_names(engine, chat, parts)
    references = {"one question": in_one, "names": names}
    rows = [] if in_one is None else [compare("one question", in_one, references)]
    rows.append(compare("names, no options", names, references))
    by_odds = branching.join_groups
    for max_options in MAX_OPTIONS:
        if max_options >= rows[0].num_children:
            continue
        memory: Memory = {}
        for name, join in (("odds", by_odds), ("product", multiply_groups)):
            descents.join_groups = join
            spec = DescentSpec(max_options=max_options)
            grouped = ask_about(engine, chat, parts, spec, memory)
            rows.append(compare(f"groups of {max_options}, {name}", grouped, references))
    descents.join_groups = by_odds
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--model", default=str(TINY))
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure falls short")
    options = parser.parse_args()
    model = ModelSpec(path=options.model, dtype="float32")
    chat = Chat(load_processor(model), subject="organism")
    engine = open_engine("transformers", model, chat, batch_size=64, engine_args={})
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "seen"
        toyworld.write_dataset(toyworld.SEEN, world, num_images=options.images, seed=77)
        spec = DatasetSpec(
            images=world / "images", taxonomy=world / "taxonomy.json", level_names=toyworld.RANKS
        )
        dataset = Dataset.load("seen", spec)
        for depth in (2, 1, 0):
            rows += rows_of(engine, chat, merged(dataset, depth), has_letters=depth > 0)
    engine.close()
    print(
        "| children | asked in | right % | from one question | same best % | from names | same % |"
    )
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    print(*rows, sep="\n")
    odds = [row for row in rows if "odds" in row.way]
    product = [row for row in rows if "product" in row.way]
    gain = np.mean([one.right - other.right for one, other in zip(odds, product, strict=True)])
    finish(
        [Figure("odds minus product, right", float(gain), "points", -2.0, is_ceiling=False)],
        check=options.check,
    )


if __name__ == "__main__":
    main()
