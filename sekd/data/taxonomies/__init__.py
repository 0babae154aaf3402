"""Formats of taxonomies: one file for each kind, and how a file's kind is told.

:func:`read_leaf_paths` reads any of them. A kind is told by the file's name and, where several
kinds share a suffix, by what the file holds, which each module states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sekd.data.taxonomies.base import LeafPath, TaxonomyOptions, with_ranks
from sekd.data.taxonomies.dumps import read_ncbi, read_wordnet
from sekd.data.taxonomies.folders import read_folder_taxonomy, split_folders
from sekd.data.taxonomies.newick import read_newick
from sekd.data.taxonomies.tables import read_table_taxonomy
from sekd.data.taxonomies.trees import read_json_taxonomy, read_yaml_taxonomy
from sekd.errors import ConfigError
from sekd.io.text import refuse_irregular

__all__ = ["LeafPath", "TaxonomyOptions", "read_leaf_paths", "with_ranks"]

Reader = Callable[[Path, TaxonomyOptions], list[LeafPath]]

_READER_OF_SUFFIX: Mapping[str, Reader] = {
    ".json": read_json_taxonomy,
    ".yaml": read_yaml_taxonomy,
    ".yml": read_yaml_taxonomy,
    ".csv": read_table_taxonomy,
    ".tsv": read_table_taxonomy,
    ".txt": read_table_taxonomy,
    ".jsonl": read_table_taxonomy,
    ".xlsx": read_table_taxonomy,
    ".parquet": read_table_taxonomy,
    ".nwk": read_newick,
    ".newick": read_newick,
    ".tre": read_newick,
    ".tree": read_newick,
    ".dmp": read_ncbi,
    ".noun": read_wordnet,
}
"""Suffix of a file -> its reader."""

_READER_OF_FILE_INSIDE: Mapping[str, Reader] = {
    "nodes.dmp": read_ncbi,
    "data.noun": read_wordnet,
    "Taxon.tsv": read_table_taxonomy,
    "taxon.txt": read_table_taxonomy,
    "Taxon.txt": read_table_taxonomy,
    "NameUsage.tsv": read_table_taxonomy,
}
"""Name of a file that tells what a folder is -> the reader of that file."""


def read_leaf_paths(path: Path, options: TaxonomyOptions | None = None) -> list[LeafPath]:
    """Read all leaves of a taxonomy.

    Args:
        path: a file, or a folder: an unpacked dump of NCBI, WordNet, GBIF or the Catalogue of Life,
            or a tree of folders with images.

    Raises:
        ConfigError: if the taxonomy is missing or malformed, naming the file and the place in it.
    """
    options = options or TaxonomyOptions()
    if path.is_dir():
        for name, reader in _READER_OF_FILE_INSIDE.items():
            if (path / name).is_file():
                return reader(path / name, options)
        return read_folder_taxonomy(split_folders(path) or [path], options)
    if not path.exists():
        raise ConfigError(f"{path}: no such taxonomy file (data.taxonomy)")
    refuse_irregular(path)
    if path.suffix.lower() not in _READER_OF_SUFFIX:
        known = ", ".join(_READER_OF_SUFFIX)
        raise ConfigError(f"{path}: a taxonomy is a folder, or ends in {known}")
    return _READER_OF_SUFFIX[path.suffix.lower()](path, options)
