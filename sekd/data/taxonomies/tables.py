"""Taxonomies as tables: one column for each rank, or one row for each link.

A table has links where its header names a parent: ``parent,child``, ``id,name,parent_id``, or the
columns of Darwin Core and GBIF (``parentNameUsageID``) and of the Catalogue of Life
(``col:parentID``). Any other table has a column for each rank, root first; the last filled cell of
a row is its leaf, and an empty cell is a rank that this leaf does not have.

Columns of authors, statuses and the like, which Darwin Core has beside its ranks, are left out
where the header names at least three Linnaean ranks and any term of Darwin Core.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from sekd.config.messages import nearest
from sekd.data.taxonomies.base import LeafPath, TaxonomyOptions
from sekd.data.taxonomies.links import LinkedNode, leaves_of_links
from sekd.errors import ConfigError
from sekd.io.table_chunk import row_place
from sekd.io.tables import column_names, read_chunks
from sekd.io.text import read_lines

_LINNAEAN = ("domain", "kingdom", "phylum", "class", "order", "family", "genus", "species")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("taxonid", "id", "childid", "nodeid", "key", "child", "node", "name"),
    "parent": ("parentnameusageid", "parentid", "parentkey", "parent", "parentname", "hypernym"),
    "name": ("canonicalname", "scientificname", "name", "childname", "label", "child", "node"),
    "rank": ("taxonrank", "rank"),
    "status": ("taxonomicstatus", "status"),
    "common name": ("vernacularname", "commonname"),
}
"""Meaning of a column -> names that it may have, without case, ``_``, spaces and a prefix such as
``dwc:``; the first that the header has is taken."""
_DARWIN_CORE = {"taxonid", "scientificname", "taxonrank", "taxonomicstatus"}
_ACCEPTED = {"", "accepted", "provisionally accepted", "doubtful", "valid"}
"""Statuses of taxa; rows of others are synonyms, which are no nodes."""

Row = tuple[int, Sequence[str]]


def read_table_taxonomy(path: Path, options: TaxonomyOptions) -> list[LeafPath]:
    """Read a table of either kind."""
    header, rows = _open_table(path)
    folded = [_fold_header(name) for name in header]
    columns = {
        meaning: index
        for meaning, names in _COLUMNS.items()
        for index in [next((folded.index(name) for name in names if name in folded), None)]
        if index is not None
    }
    if "parent" in columns and "id" in columns and not options.level_names:
        nodes = _read_links(path, rows, columns)
        return leaves_of_links(nodes, str(path), options)
    common_name = columns.get("common name")
    ranks = _rank_columns(path, header, folded, options.level_names, common_name)
    leaves = _read_ranks(path, rows, [(index, header[index]) for index in ranks], common_name)
    if not options.level_names:
        used = [header[index] for index in ranks]
        _refuse_ids(path, used, leaves)
        _refuse_leaf_first(path, used, leaves)
    return [leaf for leaf in leaves if options.only is None or leaf.label in options.only]


def _open_table(path: Path) -> tuple[list[str], Iterator[Row]]:
    """Return the names of the columns, and the rows as texts with their numbers."""
    if path.suffix.lower() in (".tsv", ".txt"):
        return _open_lines(path)
    header = column_names(path)
    if not header or not all(header):
        raise ConfigError(f"{path}, line 1: expected a header with one distinct name per rank")

    def rows() -> Iterator[Row]:
        for chunk in read_chunks(path):
            columns = [chunk.texts(name, is_optional=True) for name in header]
            yield from zip(chunk.numbers, zip(*columns, strict=True), strict=True)

    return header, rows()


def _open_lines(path: Path) -> tuple[list[str], Iterator[Row]]:
    """Open a text of cells between tabs, which have no quotes around them.

    A text without a tab in its first line has two ids in each line, parent and child, and no
    header, as WordNet's ``is_a.txt``.
    """
    lines = read_lines(path)
    number, first = next(lines, (1, ""))
    cells = [cell.strip() for cell in first.split("\t")]
    if len(cells) == 1 and len(first.split()) == 2:
        is_header = {_fold_header(name) for name in first.split()} <= {"parent", "child"}
        pairs = lines if is_header else iter([(number, first), *lines])
        header = first.lower().split() if is_header else ["parent", "child"]
        return header, ((line, text.split()) for line, text in pairs)
    if len(cells) == 1 and path.suffix.lower() == ".txt":
        raise ConfigError(
            f"{path}, line {number}: no taxonomy: expected cells between tabs, or a parent and a "
            f"child between spaces, got {first!r:.60}"
        )
    if len(set(cells)) < len(cells):
        raise ConfigError(f"{path}, line {number}: two columns of one name")
    return cells, (
        (line, [cell.strip().strip('"') for cell in text.split("\t")]) for line, text in lines
    )


def _fold_header(name: str) -> str:
    return re.sub(r"[\W_]", "", name.rpartition(":")[2]).casefold()


def _read_links(
    path: Path, rows: Iterator[Row], columns: Mapping[str, int]
) -> dict[str, LinkedNode]:
    id_index, parent_index = columns["id"], columns["parent"]
    name_index = columns.get("name", id_index)
    nodes: dict[str, LinkedNode] = {}
    place_of_parent: dict[str, str] = {}
    for number, cells in rows:
        place = row_place(path, number)
        if len(cells) <= max(columns.values()):
            cells = [*cells, *[""] * (max(columns.values()) + 1 - len(cells))]
        node_id, parent = cells[id_index], cells[parent_index]
        if "status" in columns and cells[columns["status"]].casefold() not in _ACCEPTED:
            continue
        if not node_id:
            raise ConfigError(f"{place}: the column of ids is empty")
        node = nodes.setdefault(node_id, LinkedNode(place, cells[name_index] or node_id))
        if "rank" in columns:
            node.rank = cells[columns["rank"]].casefold() or None
        if "common name" in columns:
            node.common_name = cells[columns["common name"]] or None
        if parent and parent != node_id and parent not in node.parents:
            node.parents.append(parent)
            place_of_parent.setdefault(parent, place)
    return _with_roots(nodes, place_of_parent, has_ids=name_index != id_index)


def _with_roots(
    nodes: dict[str, LinkedNode], place_of_parent: Mapping[str, str], *, has_ids: bool
) -> dict[str, LinkedNode]:
    """Add the parents that have no row of their own, where they are named and not numbered.

    Raises:
        ConfigError: if the id of a parent is no row's.
    """
    missing = {parent: place for parent, place in place_of_parent.items() if parent not in nodes}
    if not has_ids:
        return {name: LinkedNode(place, name) for name, place in missing.items()} | nodes
    for parent, place in missing.items():
        if parent not in ("0", "-1"):  # as some dumps write "none"
            raise ConfigError(f"{place}: no row has the id of its parent, {parent!r}")
        for node in nodes.values():
            node.parents = [name for name in node.parents if name != parent]
    return nodes


def _rank_columns(
    path: Path,
    header: Sequence[str],
    folded: Sequence[str],
    level_names: Sequence[str],
    common_name: int | None,
) -> list[int]:
    """Return the positions of the columns that hold ranks, root first."""
    if level_names:
        for name in level_names:
            if name not in header:
                raise ConfigError(
                    f"{path}: level_names: there is no column {name!r}{nearest(name, header)}"
                )
        return [header.index(name) for name in level_names]
    linnaean = [folded.index(rank) for rank in _LINNAEAN if rank in folded]
    if len(linnaean) >= 3 and _DARWIN_CORE & set(folded):
        leaf = next(
            (folded.index(n) for n in ("canonicalname", "scientificname") if n in folded), None
        )
        return linnaean if leaf is None or "species" in folded else [*linnaean, leaf]
    return [index for index in range(len(header)) if index != common_name]


def _read_ranks(
    path: Path,
    rows: Iterator[Row],
    columns: Sequence[tuple[int, str]],
    common_name: int | None,
) -> list[LeafPath]:
    leaves: dict[tuple[tuple[str, str | None], ...], LeafPath] = {}
    for number, cells in rows:
        place = row_place(path, number)
        if len(cells) <= max(index for index, _ in columns):
            raise ConfigError(f"{place}: {len(cells)} cells, fewer than the header has")
        names = tuple((cells[index], rank) for index, rank in columns if cells[index])
        if not names:
            raise ConfigError(f"{place}: the row is empty")
        name = cells[common_name] or None if common_name is not None else None
        leaf = LeafPath(place, names[-1][0], names, name)
        known = leaves.setdefault(names, leaf)
        if known is not leaf:
            leaves[(*names, ("", place))] = leaf  # a duplicate, which the taxonomy refuses
    return list(leaves.values())


def _refuse_ids(path: Path, header: Sequence[str], leaves: Sequence[LeafPath]) -> None:
    """Refuse a column of numbers whose name says that they are ids."""
    names_of: dict[str, set[str]] = {rank: set() for rank in header}
    for leaf in leaves:
        for name, rank in leaf.path:
            names_of[rank or ""].add(name)
    is_id = {
        rank
        for rank, names in names_of.items()
        if re.search(r"(?i)(?<![a-z])(id|ids|key|code|index|number|no)(?![a-z])|ID\b", rank)
        and all(re.fullmatch(r"-?\d+", name) for name in names)
    }
    if is_id:
        ranks = [rank for rank in header if rank not in is_id]
        ranks.sort(key=lambda rank: len(names_of[rank]))
        raise ConfigError(
            f"{path}: the column {min(is_id)!r} holds numbers, not names; name the columns of the "
            f"ranks, root first, e.g. level_names: {ranks}"
        )


def _refuse_leaf_first(path: Path, header: Sequence[str], leaves: Sequence[LeafPath]) -> None:
    """Refuse columns that run from the leaf to the root: each one has fewer names than before."""
    full = [leaf.path for leaf in leaves if len(leaf.path) == len(header)]
    if len(header) < 2 or len(full) < max(3, len(leaves)):
        return
    counts = [len({path[index][0] for path in full}) for index in range(len(header))]
    is_falling = all(more >= fewer for more, fewer in pairwise(counts))
    if counts[0] == len(full) > counts[-1] and is_falling:
        raise ConfigError(
            f"{path}: its columns run from the leaf to the root ({' > '.join(header)}); say which "
            f"is which, root first: level_names: {list(reversed(header))}"
        )
