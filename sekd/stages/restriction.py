"""Restrictions of a taxonomy to some of its leaves, such as the species of a country."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sekd.config.messages import nearest
from sekd.data.names import NameIndex
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import ConfigError
from sekd.io.formats import FORMATS
from sekd.io.hashing import digest
from sekd.io.tables import read_chunks
from sekd.io.text import read_lines

logger = logging.getLogger(__name__)

_NAME_COLUMNS = ("scientific_name", "scientificName", "name", "label", "leaf")
"""Columns of a table of names that hold the names, if none is called as a rank."""
_NUM_NAMED = 3


@dataclass(frozen=True)
class Restriction:
    """The leaves that may be predicted.

    Attributes:
        leaf_ids: their ids.
        node_ids: ids of the nodes at or below which one of them is.
    """

    leaf_ids: frozenset[str]
    node_ids: frozenset[str]

    @classmethod
    def of(
        cls,
        taxonomy: Taxonomy,
        *,
        subtrees: Sequence[str] = (),
        only: Path | None = None,
        exclude: Path | None = None,
    ) -> Self | None:
        """Restrict a taxonomy by names of its nodes; return ``None`` where all leaves are left.

        A name is that of a leaf or of a node, whose leaves are meant then, its common name or its
        id, and is matched by the steps of :data:`sekd.data.names.NAME_STEPS`. A name of several
        nodes means all of them.

        Args:
            subtrees: names of nodes; leaves below at least one of them are left.
            only: a list of names: a text with one in each line, or a table. Others are left out.
            exclude: such a list of what is left out.

        Raises:
            ConfigError: if a subtree is no node, a list cannot be read or names nothing of the
                taxonomy, or no leaf is left.
        """
        names = _Names(taxonomy)
        left = set(taxonomy.leaf_ids)
        if subtrees:
            left &= names.leaves_below(node for text in subtrees for node in names.subtree(text))
        if only is not None:
            left &= names.leaves_below(names.listed(only, "--only"))
        if exclude is not None:
            left -= names.leaves_below(names.listed(exclude, "--exclude"))
        if not left:
            raise ConfigError(f"{taxonomy.source}: --subtree, --only and --exclude leave no leaf")
        if len(left) == len(taxonomy.leaf_ids):
            return None
        logger.info("%d of %d leaves may be predicted", len(left), len(taxonomy.leaf_ids))
        return cls.to_leaves(taxonomy, left)

    @classmethod
    def to_leaves(cls, taxonomy: Taxonomy, leaf_ids: Iterable[str]) -> Self:
        """Restrict a taxonomy to some of its leaves."""
        leaves = frozenset(leaf_ids)
        nodes = (node.id for leaf in leaves for node in taxonomy.path(taxonomy[leaf]))
        return cls(leaves, frozenset({taxonomy.root.id, *nodes}))

    def allows(self, parent: Node, child: Node) -> bool:
        """Tell whether a path may go on from a node to a child, or end at the node itself."""
        return child.id in (self.leaf_ids if child is parent else self.node_ids)

    def digest(self) -> str:
        """Return a SHA-256 over the leaves, for a fingerprint."""
        return digest(sorted(self.leaf_ids))


class _Names:
    """Finds the nodes of a taxonomy that a list names."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._index: NameIndex[str] | None = None

    def leaves_below(self, nodes: Iterable[Node]) -> set[str]:
        """Return the ids of the leaves at or below some nodes."""
        leaves, waiting, seen = set(), list(nodes), set()
        while waiting:
            node = waiting.pop()
            if node.id in seen:
                continue
            seen.add(node.id)
            if node.id in self._taxonomy.leaf_ids:
                leaves.add(node.id)
            waiting += self._taxonomy.children(node)
        return leaves

    def subtree(self, text: str) -> list[Node]:
        """Return the nodes of a name.

        Raises:
            ConfigError: if there is none.
        """
        nodes = self._find(text)
        if not nodes:
            known = [node.name for node in self._taxonomy.nodes if self._taxonomy.children(node)]
            source = self._taxonomy.source
            hint = nearest(text, known) if len(known) > 1 else ""
            hint = hint if hint.startswith("; did") else ""  # all names would fill pages
            raise ConfigError(f"--subtree {text}: no node of {source} has this name{hint}")
        return nodes

    def listed(self, path: Path, option: str) -> list[Node]:
        """Return the nodes that a list names; say which of its names are not in the taxonomy.

        Raises:
            ConfigError: if the list cannot be read, or none of its names is there.
        """
        names = list(dict.fromkeys(filter(None, self._read(path))))
        found = {name: self._find(name) for name in names}
        unknown = [name for name, nodes in found.items() if not nodes]
        shown = ", ".join(map(repr, unknown[:_NUM_NAMED]))
        more = f" and {len(unknown) - _NUM_NAMED:,} more" if len(unknown) > _NUM_NAMED else ""
        if len(unknown) == len(names):
            raise ConfigError(
                f"{option} {path}: none of its {len(names):,} names is in {self._taxonomy.source}"
                + (f": {shown}{more}" if names else "")
            )
        if unknown:
            logger.warning(
                "%s %s: %d of %d names are not in the taxonomy: %s%s",
                *(option, path, len(unknown), len(names), shown, more),
            )
        return [node for nodes in found.values() for node in nodes]

    def _find(self, text: str) -> list[Node]:
        if text in self._taxonomy:
            return [self._taxonomy[text]]
        if self._index is None:
            nodes = ((node.name, node.id) for node in self._taxonomy.nodes)
            self._index = NameIndex([*nodes, *self._taxonomy.labelled_leaves()])
        match = self._index.find(text)
        return [] if match is None else [self._taxonomy[node_id] for node_id in match.values]

    def _read(self, path: Path) -> Iterator[str]:
        if not path.exists() or path.is_dir():
            raise ConfigError(f"{path}: no such list of names")
        if not any(suffix.lower() in FORMATS for suffix in path.suffixes):
            yield from (line.strip() for _, line in read_lines(path, takes_pipes=True))
            return
        column = None
        for chunk in read_chunks(path):
            if column is None:
                column = self._column_of_names(list(chunk.columns))
                logger.info("%s: names are read from the column %r", path, column)
            yield from chunk.texts(column)

    def _column_of_names(self, columns: Sequence[str]) -> str:
        """Choose the column of the deepest rank, or else one that is called as names are."""
        folded = {column.strip().casefold(): column for column in reversed(columns)}
        wanted = [*reversed(self._taxonomy.ranks), *_NAME_COLUMNS]
        return next((folded[w.casefold()] for w in wanted if w.casefold() in folded), columns[0])
