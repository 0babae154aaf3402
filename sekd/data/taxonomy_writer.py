"""Write a taxonomy as JSON (leaf -> path), as CSV (one column for each rank), or with all of it."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from sekd.data.taxonomies import LeafPath, TaxonomyOptions, read_leaf_paths
from sekd.data.taxonomies.base import ParentRule
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.files import write_atomically
from sekd.io.text import read_lines

COMMON_NAME = "common_name"
"""The column of common names in a CSV, as :mod:`sekd.data.taxonomies.tables` reads it."""


def convert(
    source: Path,
    target: Path,
    level_names: Sequence[str],
    several_parents: ParentRule,
    only: Path | None,
) -> int:
    """Read a taxonomy of any format, and write it; return the number of its leaves.

    Args:
        only: a text with one name or id of a leaf in each line; others are left out.

    Raises:
        ConfigError: if the taxonomy is malformed, or cannot be written in that format.
    """
    names = None if only is None else frozenset(line.strip() for _, line in read_lines(only))
    options = TaxonomyOptions(level_names=level_names, several_parents=several_parents, only=names)
    leaves = read_leaf_paths(source, options)
    Taxonomy.from_leaves(leaves, str(source))  # refuses what could not be read again
    write_leaves(leaves, target)
    return len(leaves)


def write_leaves(leaves: Sequence[LeafPath], path: Path) -> None:
    """Write leaves in the format of the file's suffix.

    JSON keeps labels and no ranks; CSV keeps ranks and common names, and its labels are names.

    Raises:
        ConfigError: if the suffix is neither ``.json`` nor ``.csv``, or the ranks of two leaves are
            in different orders.
    """
    if path.suffix == ".json":
        write_atomically(path, _to_json(leaves))
    elif path.suffix == ".csv":
        write_atomically(path, _to_csv(leaves, path))
    else:
        raise ConfigError(f"{path}: a taxonomy is written as .json or .csv, not {path.suffix!r}")


def write_taxonomy(taxonomy: Taxonomy, path: Path) -> None:
    """Write all of a taxonomy as JSON, so that it is read again with the same digest.

    Unlike :func:`write_leaves`, this keeps labels, ranks, common names and the order of the nodes.
    There is a line for each leaf.
    """
    lines = []
    for leaf in taxonomy.leaf_paths():
        names = [name for name, _ in leaf.path]
        content: dict[str, object] = {"names": names, "ranks": [rank for _, rank in leaf.path]}
        if leaf.label != names[-1]:
            content["label"] = leaf.label
        if leaf.common_name is not None:
            content["common_name"] = leaf.common_name
        if leaf.other_names:
            content["other_names"] = leaf.other_names
        lines.append(json.dumps(content, ensure_ascii=False))
    write_atomically(path, '{"leaves": [\n' + ",\n".join(lines) + "\n]}\n")


def _to_json(leaves: Sequence[LeafPath]) -> str:
    counts = Counter(leaf.label.casefold() for leaf in leaves)
    paths = {}
    for leaf in leaves:
        names = [name for name, _ in leaf.path]
        label = leaf.label if counts[leaf.label.casefold()] == 1 else "/".join(names)
        paths[label] = names
    return json.dumps(paths, ensure_ascii=False, indent=1) + "\n"


def _to_csv(leaves: Sequence[LeafPath], path: Path) -> str:
    ranks = _rank_order(leaves, path)
    has_common_names = any(leaf.common_name for leaf in leaves)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*ranks, *([COMMON_NAME] if has_common_names else [])])
    for leaf in leaves:
        name_of = {rank: name for name, rank in _ranked(leaf)}
        common_name = [leaf.common_name or ""] if has_common_names else []
        writer.writerow([*(name_of.get(rank, "") for rank in ranks), *common_name])
    return buffer.getvalue()


def _ranked(leaf: LeafPath) -> list[tuple[str, str]]:
    return [(name, rank or f"level {depth}") for depth, (name, rank) in enumerate(leaf.path)]


def _rank_order(leaves: Sequence[LeafPath], path: Path) -> list[str]:
    """Return all ranks in an order that every path follows."""
    above: dict[str, set[str]] = {}
    for leaf in leaves:
        ranks = [rank for _, rank in _ranked(leaf)]
        if len(set(ranks)) < len(ranks):
            raise ConfigError(f"{leaf.place}: a rank occurs twice in its path; write .json instead")
        above.setdefault(ranks[0], set())
        for upper, lower in pairwise(ranks):
            above.setdefault(lower, set()).add(upper)
    try:
        return list(TopologicalSorter(above).static_order())
    except CycleError as error:
        raise ConfigError(
            f"{path}: leaves have their ranks in different orders ({' > '.join(error.args[1])}); "
            "write .json instead"
        ) from error
