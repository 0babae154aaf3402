"""A taxonomy: a rooted tree of nodes with path-based ids.

Two nodes may share a name (a genus and its only species, or one name under two parents): the id is
the path, so they stay two nodes. Depths may be ragged. Depth 0 is the root; it is implicit (empty
name) where the file's paths do not share their first name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sekd.config.base import LeafNames
from sekd.data.taxonomies import LeafPath, TaxonomyOptions, read_leaf_paths, with_ranks
from sekd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a taxonomy.

    Attributes:
        id: quoted names from the root to here joined by ``/``; the implicit root's id is empty.
        name: as written in the taxonomy file.
        rank: what the level is called in a question ("phylum"); "level 2" where no name is known.
        depth: 0 for the root.
        parent: id of the parent, ``None`` for the root.
    """

    id: str
    name: str
    rank: str
    depth: int
    parent: str | None


class Taxonomy:
    """A rooted tree, which does not change after construction.

    Build one with :meth:`load` or :meth:`from_paths`.
    """

    def __init__(self, leaves: Iterable[LeafPath], source: str) -> None:
        leaves = list(leaves)
        if not leaves:
            raise ConfigError(f"{source}: the taxonomy has no leaf")
        tops = {leaf.path[0][0] for leaf in leaves}
        has_root = len(tops) == 1 and all(len(leaf.path) > 1 for leaf in leaves)
        self.source = source
        self._nodes: dict[str, Node] = {}
        self._children: dict[str, list[str]] = {}
        self._leaves: dict[str, list[str]] = {}
        self._other_names: list[tuple[str, str]] = []
        self._common_names: dict[str, str] = {}
        name, rank = leaves[0].path[0] if has_root else ("", "root")
        self.root = Node(_quote(name), name, rank or "level 0", 0, None)
        self._add_node(self.root)
        place_of: dict[str, str] = {}
        for leaf in leaves:
            node = self._add_path(leaf, leaf.path[1:] if has_root else leaf.path)
            if node.id in place_of:
                raise ConfigError(
                    f"{leaf.place}: the path of {leaf.label!r} is the one of {place_of[node.id]}; "
                    "give every leaf a path of its own"
                )
            place_of[node.id] = f"{leaf.label!r} ({leaf.place})"
            self._leaves.setdefault(leaf.label.casefold(), []).append(node.id)
            names = {leaf.label, leaf.common_name, *leaf.other_names} - {None}
            self._other_names += ((name, node.id) for name in sorted(filter(None, names)))
            if leaf.common_name is not None:
                self._common_names[node.id] = leaf.common_name

        self._leaf_ids = frozenset(place_of)
        self._order_of_leaves = tuple(place_of)
        self._levels: dict[str, list[Node]] = {}
        self._places: dict[str, int] = {}
        self._by_name: dict[tuple[int, str], list[Node]] = {}
        for node in self._nodes.values():
            peers = self._levels.setdefault(node.rank, [])
            self._places[node.id] = len(peers)
            peers.append(node)
            self._by_name.setdefault((node.depth, node.name.casefold()), []).append(node)

    def _add_node(self, node: Node) -> None:
        self._nodes[node.id] = node
        self._children[node.id] = []
        if node.parent is not None:
            self._children[node.parent].append(node.id)

    def _add_path(self, leaf: LeafPath, path: Sequence[tuple[str, str | None]]) -> Node:
        """Add the nodes of a path below the root that are not there yet; return the last one."""
        _refuse_bad_names(leaf)
        node = self.root
        for name, rank in path:
            parts = [node.id] if node.id else []
            node_id = "/".join([*parts, _quote(name)])
            if node_id not in self._nodes:
                depth = node.depth + 1
                self._add_node(Node(node_id, name, rank or f"level {depth}", depth, node.id))
            node = self._nodes[node_id]
            if rank is not None and node.rank != rank:
                raise ConfigError(
                    f"{leaf.place}: {name!r} has the rank {rank!r} here and {node.rank!r} above"
                )
        return node

    @classmethod
    def from_paths(
        cls,
        paths: Mapping[str, Sequence[str]],
        *,
        level_names: Sequence[str] = (),
        source: str = "taxonomy",
    ) -> Taxonomy:
        """Build a taxonomy from leaf label -> names from the root to the leaf.

        Args:
            level_names: the rank of each position of a path; "level 1" and so on if empty.

        Raises:
            ConfigError: on an empty name, a cycle, a duplicate leaf or path, too few level names.
        """
        return cls(
            (
                LeafPath(f"{source}: leaf {label!r}", label, with_ranks(path, level_names, source))
                for label, path in paths.items()
            ),
            source,
        )

    @classmethod
    def load(
        cls, path: Path, *, level_names: Sequence[str] = (), leaf_names: LeafNames = "scientific"
    ) -> Taxonomy:
        """Read a taxonomy of any format that :mod:`sekd.data.taxonomies` reads.

        Args:
            level_names: as in :class:`sekd.data.taxonomies.TaxonomyOptions`.

        Raises:
            ConfigError: if the file is missing or malformed; the message names file and place.
        """
        leaves = read_leaf_paths(path, TaxonomyOptions(level_names=tuple(level_names)))
        return cls.from_leaves(leaves, str(path), leaf_names)

    @classmethod
    def from_leaves(
        cls, leaves: Iterable[LeafPath], source: str, leaf_names: LeafNames = "scientific"
    ) -> Taxonomy:
        """Build a taxonomy from leaves, under the names that are asked for.

        Raises:
            ConfigError: if no leaf has a common name and one is asked for, or as in
                :meth:`from_paths`.
        """
        leaves = list(leaves)
        if leaf_names != "scientific":
            if not any(leaf.common_name for leaf in leaves):
                raise ConfigError(
                    f"{source}: gives no common names; leave leaf_names: {leaf_names} out"
                )
            leaves = [_renamed(leaf, leaf_names) for leaf in leaves]
        return cls(leaves, source)

    def __getitem__(self, node_id: str) -> Node:
        return self._nodes[node_id]

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def nodes(self) -> Iterable[Node]:
        """All nodes, a parent before its children."""
        return self._nodes.values()

    @property
    def ranks(self) -> Sequence[str]:
        """The ranks below the root, each once, from the top down.

        A rank that stands at several depths has the place of its deepest node, so that a rank which
        only some paths have comes in front of those below it.
        """
        deepest: dict[str, int] = {}
        for node in self._nodes.values():
            if node.parent is not None:
                deepest[node.rank] = max(node.depth, deepest.get(node.rank, 0))
        return sorted(deepest, key=deepest.__getitem__)

    @property
    def labels(self) -> Iterable[str]:
        """Leaf labels, case-folded."""
        return self._leaves.keys()

    @property
    def leaf_ids(self) -> frozenset[str]:
        """Ids of the nodes at which a path of the file ends. Such a node may have children, too."""
        return self._leaf_ids

    def labelled_leaves(self) -> Sequence[tuple[str, str]]:
        """Return (name, node id) for every name of every leaf: label, common and other names."""
        return self._other_names

    def common_name(self, node: Node) -> str | None:
        """Return the common name of a leaf; ``None`` where the file gives none."""
        return self._common_names.get(node.id)

    def leaf_paths(self) -> list[LeafPath]:
        """Return the leaves in the order of the file, from which the same taxonomy can be built."""
        label_of = {node_id: label for label, ids in self._leaves.items() for node_id in ids}
        names_of: dict[str, set[str]] = {}
        for name, node_id in self._other_names:
            names_of.setdefault(node_id, set()).add(name)
        root = [self.root] if self.root.name else []
        leaves = []
        for node_id in self._order_of_leaves:
            names, common_name = names_of[node_id], self._common_names.get(node_id)
            label = next(name for name in sorted(names) if name.casefold() == label_of[node_id])
            leaves.append(
                LeafPath(
                    f"{self.source}: leaf {label!r}",
                    label,
                    tuple((node.name, node.rank) for node in [*root, *self.path(self[node_id])]),
                    common_name,
                    tuple(sorted(names - {label, common_name})),
                )
            )
        return leaves

    def leaves_labelled(self, label: str) -> list[Node]:
        """Return the leaves of a label (case does not matter), or the leaf of that node id."""
        ids = self._leaves.get(label.casefold(), [])
        if len(ids) != 1 and label in self._leaf_ids:
            return [self._nodes[label]]
        return [self._nodes[node_id] for node_id in ids]

    def leaf(self, label: str) -> Node:
        """Return the node of a leaf label (case does not matter) or of a leaf's node id.

        Raises:
            LookupError: if the taxonomy has no such leaf, or several of that name.
        """
        leaves = self.leaves_labelled(label)
        if not leaves:
            near = difflib.get_close_matches(label.casefold(), self._leaves, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise LookupError(f"no leaf {label!r} in {self.source}{hint}")
        if len(leaves) > 1:
            raise LookupError(
                f"{label!r} names {len(leaves)} leaves: write the path, e.g. {leaves[0].id!r}"
            )
        return leaves[0]

    def children(self, node: Node) -> list[Node]:
        """Return the children in the order of the file."""
        return [self._nodes[child] for child in self._children[node.id]]

    def peers(self, node: Node) -> list[Node]:
        """Return all nodes of the same rank, this one included.

        They have one depth, except where some leaves lack a rank in the middle: a family without an
        order above it is still compared with families.
        """
        return self._levels[node.rank]

    def place(self, node: Node) -> int:
        """Return the index of a node among its :meth:`peers`."""
        return self._places[node.id]

    def siblings(self, node: Node) -> list[Node]:
        """Return the other children of the same parent with the same rank, in the file's order."""
        if node.parent is None:
            return []
        children = map(self._nodes.__getitem__, self._children[node.parent])
        return [child for child in children if child.rank == node.rank and child is not node]

    def path(self, node: Node) -> list[Node]:
        """Return the nodes from the first one below the root to ``node``; none for the root."""
        nodes = []
        while node.parent is not None:
            nodes.append(node)
            node = self._nodes[node.parent]
        return nodes[::-1]

    def named(self, name: str, depth: int) -> list[Node]:
        """Return all nodes of that name (case does not matter) at that depth."""
        return self._by_name.get((depth, name.casefold()), [])

    def digest(self) -> str:
        """Return a SHA-256 over all that questions are made from: nodes, ranks and leaf labels."""
        nodes = [[n.id, n.name, n.rank] for n in self._nodes.values()]
        content: list[object] = [nodes, self._leaves]
        if any(len({node.depth for node in level}) > 1 for level in self._levels.values()):
            content.append("peers are the nodes of one rank")  # they were those of one depth
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _quote(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


def name_of(node_id: str) -> str:
    """Return the name of a node, from its id alone."""
    return node_id.rpartition("/")[2].replace("%2F", "/").replace("%25", "%")


def _renamed(leaf: LeafPath, leaf_names: LeafNames) -> LeafPath:
    """Return a leaf whose last name is the common one, or both; its label stays."""
    name, rank = leaf.path[-1]
    if leaf.common_name is None:
        return leaf
    shown = leaf.common_name if leaf_names == "common" else f"{leaf.common_name} ({name})"
    return replace(leaf, path=(*leaf.path[:-1], (shown, rank)))


def _is_text(name: str) -> bool:
    """Tell whether a name can be stored: lone surrogates and NUL cannot."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def _refuse_bad_names(leaf: LeafPath) -> None:
    """Raise a ConfigError if a name is empty or no plain text, or comes back later in the path.

    A name may follow itself directly (genus and species of one name).
    """
    names = [name for name, _ in leaf.path]
    for index, name in enumerate(names):
        if not name.strip():
            raise ConfigError(f"{leaf.place}: name {index + 1} of the path is empty")
        if not (_is_text(name) and _is_text(leaf.label)):
            raise ConfigError(
                f"{leaf.place}: the name {name!r} is no text: it holds a NUL or a lone surrogate"
            )
        if name in names[: max(index - 1, 0)] and names[index - 1] != name:
            cycle = " > ".join(names[names.index(name) : index + 1])
            raise ConfigError(f"{leaf.place}: the path runs in a cycle: {cycle}")
