"""How a descent asks about the children of a node: which it shows, together, in which order.

A node with more children than a question has options is asked about in groups, and then among the
winners of the groups, in groups again if there are too many.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sekd.data.questions import option_key
from sekd.data.taxonomy import Node, Taxonomy


@dataclass(frozen=True)
class Branches:
    """The nodes at which a path can go on from a node.

    Attributes:
        nodes: the children in the order of the file; behind them the node itself, if a path of the
            taxonomy ends at it although it has children.
        rank: what a question about them asks for: the rank that most of the children have.
        lookalikes: groups of ``nodes`` that read alike, most of them of one node. A question shows
            the first node of a group, and the others share its probability, because no model can
            tell them apart.
    """

    nodes: tuple[Node, ...]
    rank: str
    lookalikes: tuple[tuple[Node, ...], ...]

    @classmethod
    def below(cls, taxonomy: Taxonomy, node: Node) -> Branches | None:
        """Return the branches below a node; ``None`` where every path ends at it."""
        children = taxonomy.children(node)
        if not children:
            return None
        (rank, _), *_ = Counter(child.rank for child in children).most_common(1)
        nodes = [*children, node] if node.id in taxonomy.leaf_ids else children
        by_key: dict[str, list[Node]] = {}
        for each in nodes:
            by_key.setdefault(option_key(each.name), []).append(each)
        return cls(tuple(nodes), rank, tuple(map(tuple, by_key.values())))

    @property
    def options(self) -> list[Node]:
        """The nodes that questions show: one of each that read alike."""
        return [group[0] for group in self.lookalikes]

    def spread(self, probabilities: dict[str, float]) -> NDArray[np.float64]:
        """Return the probability of each node, float64 [nodes].

        Args:
            probabilities: id of each of ``options`` -> its probability.
        """
        shares = {
            node.id: probabilities[group[0].id] / len(group)
            for group in self.lookalikes
            for node in group
        }
        return np.array([shares[node.id] for node in self.nodes])


def deal_groups(
    options: Sequence[Node], max_options: int, rng: random.Random
) -> list[tuple[Node, ...]]:
    """Deal nodes into as few groups as possible, in a random order; sizes differ by one at most.

    A group of one node need not be asked about.
    """
    shuffled = rng.sample(options, len(options))
    num_groups = math.ceil(len(options) / max_options)
    return [tuple(shuffled[start::num_groups]) for start in range(num_groups)]


def count_questions(num_options: int, max_options: int) -> int:
    """Return how many questions a descent asks about this number of nodes, finals included."""
    if num_options < 2:
        return 0
    if num_options <= max_options:
        return 1
    num_groups = math.ceil(num_options / max_options)
    num_single = max(0, 2 * num_groups - num_options)  # groups of one node
    return num_groups - num_single + count_questions(num_groups, max_options)


def join_groups(
    within: Sequence[NDArray[np.float64]], among: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Combine the distributions of groups and of the question among their winners into one.

    The odds of two winners are those of the question that showed both, and the odds of a node and
    the winner of its group are those within the group: ``P(node) ~ among(winner) * within(node) /
    within(winner)``, which is exact where odds do not depend on the other options shown (Luce's
    choice axiom). So the winner of the winners is the most probable node. Not given by the paper.

    Args:
        within: the probabilities of the nodes of each group.
        among: the probabilities of the winners, one for each group.

    Returns:
        The probabilities of the nodes of each group; they sum to one over all groups.
    """
    weights = [
        share * group / group.max() for group, share in zip(within, among.tolist(), strict=True)
    ]
    total = sum(float(group.sum()) for group in weights)
    return [group / total for group in weights]
