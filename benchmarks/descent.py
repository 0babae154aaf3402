"""Measure what groups of options do to the answer about a node with many children.

    python benchmarks/descent.py [--images 200] [--model sekd/tiny_model] [--check]

Levels of the drawn world are merged, so that a family has 9 species and an order 26. Each image is
asked about the species below its own family or order: in one question, which shows all of them, and
in groups of at most 2 to 13 with a final among their winners, as a descent asks. The distributions
over the children are compared: total variation distance (0 to 1, mean over images), and how often
the best child is the same. Two ways to combine groups and final are compared as well: by odds (what
sekd does), and by the product of the winner's share and the share within its group.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from figures import Figure, finish
from numpy.typing import NDArray

from sekd.config import DatasetSpec, DescentSpec, ElicitSpec, ModelSpec
from sekd.data import branching, toyworld
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.engines import Engine, open_engine
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.stages import descent as descents
from sekd.stages.prepare import prepare_samples, run_conversations

TINY = Path(toyworld.__file__).parents[1] / "tiny_model"
MAX_OPTIONS = (2, 3, 4, 6, 13)
IN_ONE = DescentSpec(max_options=26)
Distribution = NDArray[np.float64]


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


def merged(dataset: Dataset, depth: int) -> list[Dataset]:
    """Return one dataset for each node at a depth: its leaves, up to 26, are its children."""
    taxonomy = dataset.taxonomy
    leaves: dict[str, list[str]] = defaultdict(list)
    paths = {
        leaf: [node.name for node in taxonomy.path(taxonomy[leaf])] for leaf in taxonomy.leaf_ids
    }
    for leaf in sorted(paths):
        leaves["/".join(paths[leaf][:depth])].append(leaf)
    parts = []
    for children in leaves.values():
        kept = children[:26]
        names = {paths[leaf][-1]: [paths[leaf][depth - 1], paths[leaf][-1]] for leaf in kept}
        ranks = [toyworld.RANKS[depth], toyworld.RANKS[-1]]
        merged_taxonomy = Taxonomy.from_paths(names, level_names=ranks)
        samples = [
            replace(sample, leaf=merged_taxonomy.leaf(paths[sample.leaf.id][-1]))
            for sample in dataset.samples
            if sample.leaf is not None and sample.leaf.id in kept
        ]
        parts.append((replace(dataset.without_quiz(), taxonomy=merged_taxonomy), samples))
    return parts


def ask_about(
    engine: Engine, chat: Chat, parts: Sequence[tuple[Dataset, list]], spec: DescentSpec
) -> dict[str, Answers]:
    answers = {}
    for dataset, samples in parts:
        truths = {sample.id: sample.leaf for sample in samples}
        for outcome in run_conversations(
            engine,
            prepare_samples(dataset, samples),
            lambda one, dataset=dataset: descents.descend(chat, dataset, one, spec, ElicitSpec()),
        ):
            assert isinstance(outcome, descents.Descent)
            (level,) = outcome.paths[0].levels
            truth = level.children.index(truths[outcome.sample_id])
            answers[outcome.sample_id] = Answers(level.probabilities, truth)
    return answers


@dataclass(frozen=True)
class Row:
    """A way to ask, against asking about all children in one question."""

    num_children: int
    way: str
    right: float
    distance: float | None = None
    same_best: float | None = None

    def __str__(self) -> str:
        distance = "" if self.distance is None else f"{self.distance:.3f}"
        same = "" if self.same_best is None else f"{100 * self.same_best:.1f}"
        return f"| {self.num_children} | {self.way} | {self.right:.1f} | {distance} | {same} |"


def compare(way: str, answers: dict[str, Answers], in_one: dict[str, Answers] | None = None) -> Row:
    right = np.mean([each.distribution.argmax() == each.truth for each in answers.values()])
    num_children = len(next(iter(answers.values())).distribution)
    if in_one is None:
        return Row(num_children, way, 100 * float(right))
    pairs = [(answers[key].distribution, in_one[key].distribution) for key in answers]
    return Row(
        num_children,
        way,
        100 * float(right),
        float(np.mean([0.5 * np.abs(one - other).sum() for one, other in pairs])),
        float(np.mean([one.argmax() == other.argmax() for one, other in pairs])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--model", default=str(TINY))
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure falls short")
    options = parser.parse_args()
    model = ModelSpec(path=options.model, dtype="float32")
    chat = Chat(load_processor(model), subject="organism")
    engine = open_engine("transformers", model, chat, batch_size=64, engine_args={})
    by_odds = branching.join_groups
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "seen"
        toyworld.write_dataset(toyworld.SEEN, world, num_images=options.images, seed=77)
        spec = DatasetSpec(
            images=world / "images", taxonomy=world / "taxonomy.json", level_names=toyworld.RANKS
        )
        dataset = Dataset.load("seen", spec)
        for depth in (2, 1):
            parts = merged(dataset, depth)
            in_one = ask_about(engine, chat, parts, IN_ONE)
            rows.append(compare("one question", in_one))
            for max_options in MAX_OPTIONS:
                if max_options >= rows[-1].num_children:
                    continue
                for name, join in (("odds", by_odds), ("product", multiply_groups)):
                    descents.join_groups = join
                    grouped = ask_about(engine, chat, parts, DescentSpec(max_options=max_options))
                    rows.append(compare(f"groups of {max_options}, {name}", grouped, in_one))
    engine.close()
    print("| children | asked in | right % | distance | same best % |")
    print("| ---: | --- | ---: | ---: | ---: |")
    print(*rows, sep="\n")
    odds = [row for row in rows if "odds" in row.way]
    product = [row for row in rows if "product" in row.way]
    gain = np.mean([one.right - other.right for one, other in zip(odds, product, strict=True)])
    finish(
        [Figure("odds minus product, right", float(gain), "points", 0.0, is_ceiling=False)],
        check=options.check,
    )


if __name__ == "__main__":
    main()
