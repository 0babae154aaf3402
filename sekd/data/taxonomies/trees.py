"""Taxonomies as JSON or YAML: leaf -> path, a nested tree, lists of leaves or of categories.

- An object of lists of names is leaf -> path, root first.
- An object with a list ``categories`` is what iNaturalist 2021 and COCO have: each category is a
  leaf, with its ranks as keys.
- An object with a list ``leaves`` is what sekd writes beside a trained model: each leaf has its
  ``names`` and ``ranks``, root first, and where they differ a ``label`` and other names.
- Anything else is a nested tree: an object of name -> subtree, a list of names and subtrees, or an
  object with ``name`` and ``children``. An empty subtree is a leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sekd.data.taxonomies.base import LeafPath, TaxonomyOptions, with_ranks
from sekd.errors import ConfigError, in_one_line
from sekd.io.text import read_json, read_text_file
from sekd.io.yaml_files import load_yaml

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
"""The ranks of an iNaturalist category above its ``name``, the species."""


def read_json_taxonomy(path: Path, options: TaxonomyOptions) -> list[LeafPath]:
    """Read a JSON file of any of these shapes."""

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise ConfigError(f"{path}: the leaf {key!r} occurs twice")
            content[key] = value
        return content

    return _leaves_of(read_json(path, refuse_duplicates), path, options)


def read_yaml_taxonomy(path: Path, options: TaxonomyOptions) -> list[LeafPath]:
    """Read a YAML file of any of these shapes."""
    try:
        content = load_yaml(read_text_file(path))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {in_one_line(str(error))}") from error
    return _leaves_of(content, path, options)


def _leaves_of(content: Any, path: Path, options: TaxonomyOptions) -> list[LeafPath]:
    if not isinstance(content, dict | list):
        raise ConfigError(f"{path}: expected an object of leaf -> list of names, root first")
    if isinstance(content, dict) and _is_list_of_dicts(content.get("categories")):
        leaves = category_leaves(content["categories"], path)
    elif isinstance(content, dict) and _is_list_of_leaves(content.get("leaves")):
        leaves = [_read_leaf(leaf, path, n) for n, leaf in enumerate(content["leaves"], start=1)]
    elif isinstance(content, dict) and _has_paths(content):
        leaves = list(_leaves_with_paths(content, path, options.level_names))
    else:
        leaves = [
            LeafPath(f"{path}: leaf {names[-1]!r}", names[-1], ranked)
            for names in _walk(content, path)
            for ranked in [with_ranks(names, options.level_names, str(path))]
        ]
    return [leaf for leaf in leaves if options.only is None or leaf.label in options.only]


def _has_paths(content: Mapping[Any, Any]) -> bool:
    """Tell whether an object is leaf -> path: a list of names under its first key says so."""
    if _is_name(content.get("name")) and isinstance(content.get("children", []), list):
        return False
    first = next(iter(content.values()), None)
    return not content or not (first is None or isinstance(first, dict) or _holds_subtrees(first))


def _holds_subtrees(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _is_list_of_leaves(value: Any) -> bool:
    return _is_list_of_dicts(value) and {"names", "ranks"} <= value[0].keys()


def _read_leaf(leaf: Mapping[str, Any], path: Path, number: int) -> LeafPath:
    """Read a leaf as :func:`sekd.data.taxonomy_writer.write_taxonomy` writes it."""
    place = f"{path}, leaf {number}"
    names, ranks, others = (leaf.get(key, []) for key in ("names", "ranks", "other_names"))
    if not (_are_texts(names) and _are_texts(ranks) and names and len(names) == len(ranks)):
        raise ConfigError(f"{place}: expected as many names as ranks, got {names} and {ranks}")
    label, common_name = leaf.get("label", names[-1]), leaf.get("common_name")
    if not (isinstance(label, str) and isinstance(common_name, str | None) and _are_texts(others)):
        raise ConfigError(f"{place}: its label and other names are no texts")
    ranked = tuple(zip(names, ranks, strict=True))
    return LeafPath(place, label, ranked, common_name, tuple(others))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _leaves_with_paths(
    content: Mapping[Any, Any], path: Path, level_names: Sequence[str]
) -> Iterator[LeafPath]:
    for label, names in content.items():
        place = f"{path}: leaf {label!r}"
        if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
            raise ConfigError(
                f"{place}: expected a list of names, root first, got {str(names)[:80]!r}"
            )
    _refuse_leaf_first_paths(content, path)
    _refuse_children(content, path)
    for label, names in content.items():
        ranked = with_ranks(names, level_names, str(path))
        yield LeafPath(f"{path}: leaf {label!r}", str(label), ranked)


def _refuse_leaf_first_paths(content: Mapping[Any, Sequence[str]], path: Path) -> None:
    """Refuse paths that begin with their own leaf and end with a name that they share."""
    begins = sum(str(label).casefold() == names[0].casefold() for label, names in content.items())
    ends = {names[-1] for names in content.values()}
    longest = max(map(len, content.values()), default=0)
    if longest > 1 and begins == len(content) > len(ends):
        label, names = next(iter(content.items()))
        raise ConfigError(
            f"{path}: leaf {label!r}: its path runs from the leaf to the root "
            f"({' > '.join(names)}); write every path root first"
        )


def _refuse_children(content: Mapping[Any, Sequence[str]], path: Path) -> None:
    """Refuse parent -> list of children: no name is in two lists, and no label in its own."""
    names = [name for path_names in content.values() for name in path_names]
    is_own = any(str(label) in path_names for label, path_names in content.items())
    if len(content) > 1 and len(set(names)) == len(names) > len(content) and not is_own:
        parent, children = next(iter(content.items()))
        raise ConfigError(
            f"{path}: {parent!r}: {children[:3]} look like its children, not like its path from "
            "the root; write a leaf -> its path, or a nested tree such as "
            f'{{"{parent}": {{"{children[0]}": {{}}}}}}'
        )


def _walk(content: Any, path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the path of every leaf of a nested tree, in the order of the file."""
    stack: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while stack:
        above, subtree = stack.pop()
        if not subtree and subtree != 0 and above:
            yield above
        elif isinstance(subtree, dict) and "name" in subtree and _is_name(subtree["name"]):
            stack.append(((*above, str(subtree["name"])), subtree.get("children")))
        elif isinstance(subtree, dict):
            stack += [((*above, str(name)), below) for name, below in [*subtree.items()][::-1]]
        elif isinstance(subtree, list):
            stack += [
                ((*above, str(item)), None) if _is_name(item) else (above, item)
                for item in subtree[::-1]
            ]
        else:
            place = " > ".join(above) or "its top"
            raise ConfigError(
                f"{path}: {place}: expected a subtree (an object or a list), got {subtree!r:.80}"
            )


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def category_leaves(categories: Sequence[Mapping[str, Any]], path: Path) -> list[LeafPath]:
    """Make leaves of the categories of iNaturalist or COCO.

    The label of a category is its ``image_dir_name``, which is unique, or its name. A category of
    COCO has its ``supercategory`` as the one level above it.

    Raises:
        ConfigError: if a category has no name, or a rank is no text.
    """
    leaves = []
    for number, category in enumerate(categories, start=1):
        place = f"{path}, category {number}"
        if not isinstance(category.get("name"), str):
            raise ConfigError(f"{place}: it has no name")
        ranked = [(category[rank], rank) for rank in RANKS if category.get(rank)]
        if not ranked and category.get("supercategory"):
            ranked = [(category["supercategory"], "supercategory")]
        if not all(isinstance(name, str) for name, _ in ranked):
            raise ConfigError(f"{place}: its ranks must be texts, got {ranked}")
        rank = "species" if any(key in category for key in RANKS) else "category"
        label = category.get("image_dir_name") or category["name"]
        common_name = category.get("common_name") or None
        names = (*ranked, (category["name"], rank))
        leaves.append(LeafPath(place, label, names, common_name))
    return leaves
