"""Trees from links: each node names its parent. Parent-child lists and all dumps are of this kind.

Ids make the tree, names only label it, so that two nodes may share a name. A node with several
parents (a directed acyclic graph, as WordNet is) is refused, or keeps one parent by a
:data:`~sekd.data.taxonomies.base.ParentRule`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sekd.data.taxonomies.base import LeafPath, ParentRule, TaxonomyOptions
from sekd.errors import ConfigError


@dataclass(slots=True)
class LinkedNode:
    """A node as links describe it.

    Attributes:
        place: where it stands, for messages.
        parents: ids; none for a root.
        other_names: by which ``TaxonomyOptions.only`` may name it, too.
    """

    place: str
    name: str
    rank: str | None = None
    parents: list[str] = field(default_factory=list)
    common_name: str | None = None
    other_names: Sequence[str] = ()


def leaves_of_links(
    nodes: Mapping[str, LinkedNode], source: str, options: TaxonomyOptions
) -> list[LeafPath]:
    """Make the leaves of a tree: the nodes without children, or those that ``options`` names.

    Args:
        nodes: id -> node, in the order of the file. Every parent has an entry.

    Raises:
        ConfigError: if a parent is missing, a node has several parents and they are refused, links
            run in a cycle, or a leaf that is asked for does not exist.
    """
    if options.several_parents == "refuse":
        _refuse_several_parents(nodes)
    paths = _PathFinder(nodes, options.several_parents)
    parents = {parent for node in nodes.values() for parent in node.parents}
    if options.only is None:
        ids = [node_id for node_id in nodes if node_id not in parents]
        if nodes and not ids:
            paths.of(next(iter(nodes)))  # raises, because there is no node without a child
    else:
        ids = _asked_for(nodes, options.only, source)
    leaves = []
    for node_id in ids:
        node = nodes[node_id]
        path = tuple((nodes[i].name, nodes[i].rank) for i in paths.of(node_id))
        other_names = () if node_id == node.name else (node_id, *node.other_names)
        leaves.append(LeafPath(node.place, node.name, path, node.common_name, other_names))
    return _with_distinct_labels(leaves, list(ids))


def _with_distinct_labels(leaves: list[LeafPath], ids: Sequence[str]) -> list[LeafPath]:
    """Label the leaves that share a path by their id as well, which alone tells them apart."""
    if len({leaf.path for leaf in leaves}) == len(leaves):
        return leaves
    seen: set[tuple[tuple[str, str | None], ...]] = set()
    distinct = []
    for leaf, node_id in zip(leaves, ids, strict=True):
        if leaf.path in seen:
            name, rank = leaf.path[-1]
            name = f"{name} ({node_id})"
            leaf = replace(leaf, label=name, path=(*leaf.path[:-1], (name, rank)))
        seen.add(leaf.path)
        distinct.append(leaf)
    return distinct


def _refuse_several_parents(nodes: Mapping[str, LinkedNode]) -> None:
    for node in nodes.values():
        if len(node.parents) > 1:
            names = [nodes[parent].name for parent in node.parents[:2]]
            raise ConfigError(
                f"{node.place}: {node.name!r} has {len(node.parents)} parents: the edges "
                f"{names[0]!r} > {node.name!r} and {names[1]!r} > {node.name!r}; a taxonomy is a "
                "tree: remove one, or cut them by a rule with sekd taxonomy convert "
                "--several-parents first|shortest"
            )


def _asked_for(nodes: Mapping[str, LinkedNode], only: frozenset[str], source: str) -> list[str]:
    """Return the ids of the nodes that are named by id, name or another name."""
    missing, ids = set(only), []
    for node_id, node in nodes.items():
        named = {node_id, node.name, *node.other_names} & only
        if named:
            ids.append(node_id)
            missing -= named
    if missing:
        some = ", ".join(map(repr, sorted(missing)[:20]))
        raise ConfigError(f"{source}: {len(missing)} of {len(only)} leaves are not in it: {some}")
    return ids


class _PathFinder:
    """Finds the path from the root to a node, each node once."""

    def __init__(self, nodes: Mapping[str, LinkedNode], rule: ParentRule) -> None:
        self._nodes, self._rule = nodes, rule
        self._path_of: dict[str, tuple[str, ...]] = {}

    def of(self, node_id: str) -> tuple[str, ...]:
        """Return the ids from the root to a node."""
        stack, pending = [node_id], {node_id}
        while stack:
            current = stack[-1]
            parents = self._parents(current)
            unknown = [parent for parent in parents if parent not in self._path_of]
            if current in self._path_of or not unknown:
                pending.discard(stack.pop())
                above = min((self._path_of[p] for p in parents), key=len, default=())
                self._path_of.setdefault(current, (*above, current))
                continue
            if unknown[0] in pending:
                self._refuse_cycle(stack, unknown[0])
            pending.add(unknown[0])
            stack.append(unknown[0])
        return self._path_of[node_id]

    def _parents(self, node_id: str) -> Sequence[str]:
        parents = self._nodes[node_id].parents
        return parents if self._rule == "shortest" else parents[:1]

    def _refuse_cycle(self, stack: Sequence[str], node_id: str) -> None:
        cycle = [*stack[stack.index(node_id) :], node_id]
        names = " > ".join(self._nodes[i].name for i in reversed(cycle))
        raise ConfigError(f"{self._nodes[node_id].place}: links run in a cycle: {names}")
