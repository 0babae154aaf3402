"""Speed of what is done with data before a model sees them.

    python benchmarks/data.py [--check] [--taxonomy FILE]

Without a taxonomy of your own, the questions are about a tree with the shape of iNat's animals. The
last lines show each figure beside its limit. With --check the exit code is 1 if a figure falls
short.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

from figures import Figure, finish
from inat_metadata import measure_metadata

from sekd.data.questions import labelled_questions
from sekd.data.taxonomy import Taxonomy

WIDTHS = (1, 15, 60, 260, 1100, 3000, 5388)
"""Nodes of each level, about as many as iNat's animals have."""
NUM_ASKED = 10_000


def draw_taxonomy() -> Taxonomy:
    """Hang every node below a random one of the level above, and none without a child."""
    rng = random.Random(0)
    paths = [("life",)]
    for level, width in enumerate(WIDTHS[1:], start=1):
        parents = paths + rng.choices(paths, k=width - len(paths))
        paths = [(*parent, f"taxon {level}-{number}") for number, parent in enumerate(parents)]
    return Taxonomy.from_paths({path[-1]: path for path in paths})


def measure_questions(taxonomy: Taxonomy) -> Iterator[Figure]:
    leaves = [taxonomy[node_id] for node_id in sorted(taxonomy.leaf_ids)]
    random.Random(0).shuffle(leaves)
    modes: tuple[Literal["random", "siblings"], ...] = ("random", "siblings")
    for mode in modes:
        num_questions, started = 0, time.process_time()
        for number, leaf in enumerate(islice(cycle(leaves), NUM_ASKED)):
            num_questions += len(
                labelled_questions(
                    taxonomy,
                    leaf,
                    sample_id=f"train/{number}.jpg",
                    distractors=mode,
                    num_options=4,
                    seed=0,
                )
            )
        rate = num_questions / (time.process_time() - started)
        title = f"questions with {mode} options, {len(leaves):,} leaves"
        yield Figure(title, rate, "/s", 20_000, is_ceiling=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure falls short")
    parser.add_argument("--taxonomy", type=Path, help="a taxonomy file, .json or .csv")
    options = parser.parse_args()
    taxonomy = Taxonomy.load(options.taxonomy) if options.taxonomy else draw_taxonomy()
    finish([*measure_questions(taxonomy), *measure_metadata()], check=options.check)


if __name__ == "__main__":
    main()
