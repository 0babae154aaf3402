"""Taxonomies from the dumps of NCBI (``nodes.dmp``, ``names.dmp``) and WordNet (``data.noun``)."""

from __future__ import annotations

from pathlib import Path

from sekd.data.taxonomies.base import LeafPath, TaxonomyOptions
from sekd.data.taxonomies.links import LinkedNode, leaves_of_links
from sekd.errors import ConfigError
from sekd.io.text import read_lines

_COMMON_NAMES = ("genbank common name", "common name")
_NO_RANKS = ("no rank", "clade")


def read_ncbi(path: Path, options: TaxonomyOptions) -> list[LeafPath]:
    """Read the dump of NCBI's taxonomy: ``nodes.dmp``, with ``names.dmp`` beside it."""
    nodes: dict[str, LinkedNode] = {}
    nodes_path, names_path = path.with_name("nodes.dmp"), path.with_name("names.dmp")
    for number, line in read_lines(nodes_path):
        cells = _ncbi_cells(nodes_path, number, line, 3)
        rank = None if cells[2] in _NO_RANKS else cells[2]
        parents = [] if cells[1] == cells[0] else [cells[1]]
        nodes[cells[0]] = LinkedNode(f"{nodes_path}, line {number}", cells[0], rank, parents)
    for number, line in read_lines(names_path):
        node_id, name, _, kind, *_ = _ncbi_cells(names_path, number, line, 4)
        if node_id not in nodes:
            raise ConfigError(f"{names_path}, line {number}: no node {node_id} in {nodes_path}")
        if kind == "scientific name":
            nodes[node_id].name = name
        elif kind in _COMMON_NAMES and nodes[node_id].common_name is None:
            nodes[node_id].common_name = name
    _refuse_missing_parents(nodes)
    return leaves_of_links(nodes, str(nodes_path), options)


def _ncbi_cells(path: Path, number: int, line: str, num_cells: int) -> list[str]:
    cells = [cell.strip("\t") for cell in line.removesuffix("|").split("|")]
    if len(cells) < num_cells:
        raise ConfigError(f"{path}, line {number}: expected cells between <tab>|<tab>")
    return cells


def read_wordnet(path: Path, options: TaxonomyOptions) -> list[LeafPath]:
    """Read the nouns of WordNet; the id of a synset is ``n`` and its offset: ``n01440764``.

    A synset is named by its first word. Its hypernyms are its parents, of which some have several.
    """
    nodes: dict[str, LinkedNode] = {}
    for number, line in read_lines(path):
        if line.startswith("  "):  # the licence
            continue
        place = f"{path}, line {number}"
        cells = line.partition("|")[0].split()
        try:
            num_words = int(cells[3], 16)
            words = [word.replace("_", " ") for word in cells[4 : 4 + 2 * num_words : 2]]
            pointers = cells[5 + 2 * num_words :]
            parents = [
                f"n{pointers[index + 1]}"
                for index in range(0, len(pointers), 4)
                if pointers[index] in ("@", "@i")
            ]
            nodes[f"n{cells[0]}"] = LinkedNode(place, words[0], None, parents, None, words[1:])
        except (IndexError, ValueError) as error:
            raise ConfigError(f"{place}: not a line of WordNet's data.noun") from error
    _refuse_missing_parents(nodes)
    return leaves_of_links(nodes, str(path), options)


def _refuse_missing_parents(nodes: dict[str, LinkedNode]) -> None:
    for node in nodes.values():
        for parent in node.parents:
            if parent not in nodes:
                raise ConfigError(f"{node.place}: there is no node {parent!r}, its parent")
