"""Check a taxonomy: its shape, and what in it is suspicious."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sekd.data.names import NAME_STEPS
from sekd.data.taxonomy import Node, Taxonomy

MAX_OPTIONS = 26
"""A question has one letter for each option; a descent asks about more children in groups."""


@dataclass(frozen=True)
class LevelShape:
    """The nodes of one depth below the root.

    Attributes:
        ranks: names of the level, the most common first.
        num_single_children: nodes without a sibling, whose question has one option.
    """

    level: int
    ranks: Sequence[str]
    num_nodes: int
    num_leaves: int
    num_single_children: int


@dataclass(frozen=True)
class Suspicion:
    """Something that is often a mistake in the file, and sometimes right.

    Attributes:
        kind: "one name, two parents", "one name, two ranks", "nearly one name", "leaf with
            children", or "rank at several depths".
        name: of the node or the rank.
        places: node ids or, of a rank, depths.
    """

    kind: str
    name: str
    places: Sequence[str]


@dataclass(frozen=True)
class TaxonomyCheck:
    """The shape of a taxonomy, and what is suspicious in it; see :func:`examine_taxonomy`.

    Attributes:
        longest_chain: names from the first to the last node of the longest run of single children.
        num_too_wide: nodes with more children than a question has letters.
        widest: name of the node with the most children, and their number.
    """

    source: str
    num_nodes: int
    num_leaves: int
    min_depth: int
    max_depth: int
    levels: Sequence[LevelShape]
    longest_chain: Sequence[str]
    num_too_wide: int
    widest: tuple[str, int]
    suspicions: Sequence[Suspicion]

    def to_json(self) -> dict[str, Any]:
        """Return everything as values of JSON."""
        return asdict(self)


def examine_taxonomy(taxonomy: Taxonomy) -> TaxonomyCheck:
    """Measure the shape of a taxonomy, and find what is suspicious in it."""
    nodes = [node for node in taxonomy.nodes if node.parent is not None]
    children = {node.id: taxonomy.children(node) for node in taxonomy.nodes}
    depths = [taxonomy[leaf].depth for leaf in taxonomy.leaf_ids]
    widest = max(taxonomy.nodes, key=lambda node: len(children[node.id]))
    return TaxonomyCheck(
        source=taxonomy.source,
        num_nodes=len(nodes),
        num_leaves=len(taxonomy.leaf_ids),
        min_depth=min(depths),
        max_depth=max(depths),
        levels=_levels(taxonomy, nodes, children),
        longest_chain=[node.name for node in _longest_chain(nodes, children)],
        num_too_wide=sum(len(below) > MAX_OPTIONS for below in children.values()),
        widest=(widest.name or "the root", len(children[widest.id])),
        suspicions=[
            *_repeated_names(nodes),
            *_nearly_equal_names(children.values()),
            *(
                Suspicion("leaf with children", node.name, [node.id])
                for node in nodes
                if node.id in taxonomy.leaf_ids and children[node.id]
            ),
            *_ranks_at_several_depths(nodes),
        ],
    )


def _levels(
    taxonomy: Taxonomy, nodes: Sequence[Node], children: Mapping[str, Sequence[Node]]
) -> list[LevelShape]:
    levels = []
    for depth in range(1, max(node.depth for node in nodes) + 1):
        level = [node for node in nodes if node.depth == depth]
        levels.append(
            LevelShape(
                depth,
                [rank for rank, _ in Counter(node.rank for node in level).most_common()],
                len(level),
                sum(node.id in taxonomy.leaf_ids for node in level),
                sum(len(children[node.parent or ""]) == 1 for node in level),
            )
        )
    return levels


def _longest_chain(nodes: Sequence[Node], children: Mapping[str, Sequence[Node]]) -> Sequence[Node]:
    """Return the longest run of nodes that are the only child of the one before."""
    longest: list[Node] = []
    for node in nodes:
        chain = [node]
        while len(children[chain[-1].id]) == 1:
            chain += children[chain[-1].id]
        if len(chain) > max(len(longest), 1):
            longest = chain
    return longest


def _repeated_names(nodes: Sequence[Node]) -> list[Suspicion]:
    """Find names of several nodes; a genus and its only species of one name are no two."""
    nodes_of: dict[str, list[Node]] = {}
    for node in nodes:
        nodes_of.setdefault(node.name.casefold(), []).append(node)
    suspicions = []
    for group in nodes_of.values():
        if len(group) == 1:
            continue
        ids = [node.id for node in group]
        if len({node.rank for node in group}) < len(group):
            suspicions.append(Suspicion("one name, two parents", group[0].name, ids))
        elif not all(node.parent in ids for node in group[1:]):
            suspicions.append(Suspicion("one name, two ranks", group[0].name, ids))
    return suspicions


def _nearly_equal_names(families: Iterable[Sequence[Node]]) -> list[Suspicion]:
    """Find siblings whose names differ in case, Unicode form or punctuation alone."""
    suspicions = []
    for siblings in families:
        nodes_of: dict[str, list[Node]] = {}
        for node in siblings:
            name = node.name
            for step in NAME_STEPS[:-1]:  # a number before a name may be all that tells two apart
                name = step.fold(name)
            nodes_of.setdefault(name, []).append(node)
        suspicions += [
            Suspicion("nearly one name", group[0].name, [node.id for node in group])
            for group in nodes_of.values()
            if len(group) > 1
        ]
    return suspicions


def _ranks_at_several_depths(nodes: Sequence[Node]) -> list[Suspicion]:
    depths_of: dict[str, set[int]] = {}
    for node in nodes:
        depths_of.setdefault(node.rank, set()).add(node.depth)
    return [
        Suspicion("rank at several depths", rank, [str(depth) for depth in sorted(depths)])
        for rank, depths in depths_of.items()
        if len(depths) > 1
    ]
