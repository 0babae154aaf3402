"""Draw taxonomies with the shape of published ones and made-up names.

A shape has the number of nodes of each level, and how many of them have a single child. The other
children are dealt out unevenly, as in nature: a few families have a hundred genera.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TreeShape:
    """The shape of a taxonomy.

    Attributes:
        ranks: of the levels, root first.
        widths: nodes of each level, root first.
        singles: nodes of each level but the last that have a single child.
    """

    ranks: tuple[str, ...]
    widths: tuple[int, ...]
    singles: tuple[int, ...]


INAT_ANIMALS = TreeShape(
    ranks=("kingdom", "phylum", "class", "order", "family", "genus", "species"),
    widths=(1, 6, 27, 152, 715, 2988, 5388),
    singles=(0, 0, 6, 73, 370, 2026),
)
CUB = TreeShape(
    ranks=("class", "order", "family", "genus", "species"),
    widths=(1, 13, 37, 124, 200),
    singles=(0, 9, 17, 87),
)

_UNEVENNESS = 0.9
"""Standard deviation of the logarithm by which a node's share of the children differs from that of
its parent. With it iNat's leaves have about as many names beside their path as in nature."""
_SYLLABLES = [a + b for a in "bcdfghlmnprstv" for b in ("a", "e", "i", "o", "us", "ia", "or")]


def draw_taxonomy(shape: TreeShape, path: Path) -> None:
    """Write a taxonomy of this shape as JSON: leaf -> the names of its path, root first."""
    rng = random.Random(0)
    names = _names(random.Random(1))
    paths, weights = [[next(names)]], [1.0]
    for level, num_children in enumerate(shape.widths[1:]):
        weights = [weight * rng.lognormvariate(0, _UNEVENNESS) for weight in weights]
        counts = _deal(weights, shape.singles[level], num_children, rng)
        is_last = level + 2 == len(shape.widths)
        parents = [parent for parent, count in enumerate(counts) for _ in range(count)]
        paths = [
            [*paths[parent], f"{paths[parent][-1]} {next(names)}" if is_last else next(names)]
            for parent in parents
        ]
        weights = [weights[parent] for parent in parents]
    path.write_text(json.dumps({each[-1]: each for each in paths}), encoding="utf-8")


def _deal(
    weights: list[float], num_single: int, num_children: int, rng: random.Random
) -> list[int]:
    """Return how many children each node has: one if its weight is low, or at least two."""
    by_weight = sorted(range(len(weights)), key=weights.__getitem__)
    others = by_weight[num_single:]
    counts = [1] * len(weights)
    for node in others:
        counts[node] = 2
    num_left = num_children - sum(counts)
    for node in rng.choices(others, [weights[node] for node in others], k=num_left):
        counts[node] += 1
    return counts


def _names(rng: random.Random) -> Iterator[str]:
    """Yield names that are all different, as long as Latin ones."""
    seen = set()
    while True:
        name = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 3, 4, 5)))).capitalize()
        if name not in seen:
            seen.add(name)
            yield name
