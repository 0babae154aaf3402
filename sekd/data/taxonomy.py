"""A taxonomy: a rooted tree of nodes with path-based ids.

Two nodes may share a name (a genus and its only species, or one name under two parents): the id is
the path, so they stay two nodes. Depths may be ragged. Depth 0 is the root; it is implicit (empty
name) where the file's paths do not share their first name.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class _Row:
    """One leaf as a file gives it: where it stands, its label, and (name, rank) from the top."""

    place: str
    label: str
    path: tuple[tuple[str, str | None], ...]


class Taxonomy:
    """A rooted tree; immutable after construction.

    Build one with :meth:`load` or :meth:`from_paths`.
    """

    def __init__(self, rows: Iterable[_Row], source: str) -> None:
        rows = list(rows)
        if not rows:
            raise ConfigError(f"{source}: the taxonomy has no leaf")
        tops = {row.path[0][0] for row in rows}
        is_explicit = len(tops) == 1 and all(len(row.path) > 1 for row in rows)
        self.source = source
        self._nodes: dict[str, Node] = {}
        self._children: dict[str, list[str]] = {}
        self._leaves: dict[str, list[str]] = {}
        first, rank = rows[0].path[0] if is_explicit else ("", "root")
        self.root = Node(_quote(first), first, rank or "level 0", 0, None)
        self._add_node(self.root)
        seen_at: dict[str, str] = {}
        for row in rows:
            leaf = self._add_path(row, row.path[1:] if is_explicit else row.path)
            if leaf.id in seen_at:
                raise ConfigError(
                    f"{row.place}: the path of {row.label!r} is the one of {seen_at[leaf.id]}; "
                    "give every leaf a path of its own"
                )
            seen_at[leaf.id] = f"{row.label!r} ({row.place})"
            self._leaves.setdefault(row.label.casefold(), []).append(leaf.id)

        self._leaf_ids = frozenset(seen_at)
        self._levels: dict[tuple[int, str], list[Node]] = {}
        self._by_name: dict[tuple[int, str], list[Node]] = {}
        for node in self._nodes.values():
            self._levels.setdefault((node.depth, node.rank), []).append(node)
            self._by_name.setdefault((node.depth, node.name.casefold()), []).append(node)

    def _add_node(self, node: Node) -> None:
        self._nodes[node.id] = node
        self._children[node.id] = []
        if node.parent is not None:
            self._children[node.parent].append(node.id)

    def _add_path(self, row: _Row, path: Sequence[tuple[str, str | None]]) -> Node:
        _refuse_cycle(row)
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
                    f"{row.place}: {name!r} has the rank {rank!r} here and {node.rank!r} above"
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
        """Build from leaf label -> names from the root to the leaf.

        Args:
            level_names: what each position of a path is called; "level 1" and so on if empty.

        Raises:
            ConfigError: on an empty name, a cycle, a duplicate leaf or path, too few level names.
        """
        return cls(
            (
                _Row(f"{source}: leaf {label!r}", label, _name_levels(path, level_names, source))
                for label, path in paths.items()
            ),
            source,
        )

    @classmethod
    def load(cls, path: Path, *, level_names: Sequence[str] = ()) -> Taxonomy:
        """Read a ``.json`` (leaf -> root-first path) or ``.csv`` file (one column per rank).

        In a CSV the last non-empty cell of a row is its leaf and the header names the ranks; an
        empty cell is a rank that this leaf does not have.

        Raises:
            ConfigError: if the file is missing or malformed; the message names file and place.
        """
        if not path.is_file():
            raise ConfigError(f"{path}: no such taxonomy file (data.taxonomy)")
        if path.suffix == ".json":
            rows = _read_json(path, level_names)
        elif path.suffix == ".csv":
            if level_names:
                raise ConfigError(
                    f"{path}: a CSV names its ranks in its header; remove level_names"
                )
            rows = _read_csv(path)
        else:
            raise ConfigError(f"{path}: a taxonomy is a .json or a .csv file, not {path.suffix!r}")
        return cls(rows, str(path))

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
    def labels(self) -> Iterable[str]:
        """Leaf labels, case-folded."""
        return self._leaves.keys()

    @property
    def leaf_ids(self) -> frozenset[str]:
        """Ids of the nodes at which a path of the file ends; one may have children of its own."""
        return self._leaf_ids

    def leaf(self, label: str) -> Node:
        """The node of a leaf label (case does not matter) or of a leaf's node id.

        Raises:
            LookupError: if the taxonomy has no such leaf, or several of that name.
        """
        ids = self._leaves.get(label.casefold(), [])
        if len(ids) != 1 and label in self._leaf_ids:
            return self._nodes[label]
        if not ids:
            near = difflib.get_close_matches(label.casefold(), self._leaves, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise LookupError(f"no leaf {label!r} in {self.source}{hint}")
        if len(ids) > 1:
            raise LookupError(f"{label!r} names {len(ids)} leaves: write the path, e.g. {ids[0]!r}")
        return self._nodes[ids[0]]

    def children(self, node: Node) -> list[Node]:
        """Children in the order of the file."""
        return [self._nodes[child] for child in self._children[node.id]]

    def peers(self, node: Node) -> list[Node]:
        """All nodes of the same depth and rank, this one included."""
        return self._levels[node.depth, node.rank]

    def path(self, node: Node) -> list[Node]:
        """Nodes from the first one below the root down to ``node``; empty for the root."""
        nodes = []
        while node.parent is not None:
            nodes.append(node)
            node = self._nodes[node.parent]
        return nodes[::-1]

    def named(self, name: str, depth: int) -> list[Node]:
        """All nodes of that name (case does not matter) at that depth."""
        return self._by_name.get((depth, name.casefold()), [])

    def digest(self) -> str:
        """SHA-256 over nodes, ranks and leaf labels: what questions are made from."""
        content = [[n.id, n.name, n.rank] for n in self._nodes.values()]
        text = json.dumps([content, self._leaves], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _quote(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


def name_of(node_id: str) -> str:
    """The name of a node, from its id alone."""
    return node_id.rpartition("/")[2].replace("%2F", "/").replace("%25", "%")


def _refuse_cycle(row: _Row) -> None:
    """A name may follow itself (genus and species of one name) but never come back later."""
    names = [name for name, _ in row.path]
    for index, name in enumerate(names):
        if not name.strip():
            raise ConfigError(f"{row.place}: name {index + 1} of the path is empty")
        if name in names[: max(index - 1, 0)] and names[index - 1] != name:
            way = " > ".join(names[names.index(name) : index + 1])
            raise ConfigError(f"{row.place}: the path runs in a cycle: {way}")


def _name_levels(
    path: Sequence[str], level_names: Sequence[str], source: str
) -> tuple[tuple[str, str | None], ...]:
    if not level_names:
        return tuple((name, None) for name in path)
    if len(path) > len(level_names):
        raise ConfigError(
            f"{source}: a path has {len(path)} levels ({' > '.join(path)}) but level_names has "
            f"{len(level_names)}"
        )
    return tuple(zip(path, level_names, strict=False))


def _read_json(path: Path, level_names: Sequence[str]) -> list[_Row]:
    def refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{path}: the leaf {key!r} occurs twice")
            seen[key] = value
        return seen

    try:
        content = json.loads(path.read_text("utf-8"), object_pairs_hook=refuse_duplicates)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected an object of leaf -> list of names, root first")
    rows = []
    for label, names in content.items():
        place = f"{path}: leaf {label!r}"
        if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
            raise ConfigError(f"{place}: expected a list of names, root first, got {names!r}")
        rows.append(_Row(place, label, _name_levels(names, level_names, str(path))))
    return rows


def _read_csv(path: Path) -> list[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from error
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    if not header or len(set(header)) < len(header) or not all(header):
        raise ConfigError(f"{path}, line 1: expected a header with one distinct name per rank")
    rows = []
    for line, cells in lines[1:]:
        place = f"{path}, line {line}"
        if len(cells) != len(header):
            raise ConfigError(f"{place}: {len(cells)} cells under {len(header)} ranks")
        named = tuple(
            (cell.strip(), rank) for cell, rank in zip(cells, header, strict=True) if cell.strip()
        )
        if not named:
            raise ConfigError(f"{place}: the row is empty")
        rows.append(_Row(place, named[-1][0], named))
    return rows
