"""Restrictions: which leaves lists and subtrees leave, and what is said about the others."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sekd.data.taxonomies.base import LeafPath
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.stages.restriction import Restriction

RANKS = ("class", "genus", "species")


def leaf(common: str | None, *names: str) -> LeafPath:
    return LeafPath(names[-1], names[-1], tuple(zip(names, RANKS, strict=False)), common)


@pytest.fixture
def tree() -> Taxonomy:
    return Taxonomy.from_leaves(
        [
            leaf("raven", "Aves", "Corvus", "Corvus corax"),
            leaf("carrion crow", "Aves", "Corvus", "Corvus corone"),
            leaf("robin", "Aves", "Erithacus", "Erithacus rubecula"),
            leaf("brown trout", "Pisces", "Salmo", "Salmo trutta"),
        ],
        "tree.csv",
    )


def names(tree: Taxonomy, restriction: Restriction | None) -> set[str]:
    assert restriction is not None
    return {tree[leaf_id].name for leaf_id in restriction.leaf_ids}


def test_a_subtree_is_named_by_any_of_its_names(tree: Taxonomy) -> None:
    crows = {"Corvus corax", "Corvus corone"}
    assert names(tree, Restriction.of(tree, subtrees=["Corvus"])) == crows
    assert names(tree, Restriction.of(tree, subtrees=["corvus"])) == crows
    assert names(tree, Restriction.of(tree, subtrees=["Aves/Corvus"])) == crows
    both = Restriction.of(tree, subtrees=["Corvus", "raven", "Salmo"])
    assert names(tree, both) == {*crows, "Salmo trutta"}


def test_lists_are_texts_or_tables(tree: Taxonomy, tmp_path: Path) -> None:
    text = tmp_path / "ghana.txt"
    text.write_text("Corvus corax\n\nbrown trout\n", "utf-8")
    assert names(tree, Restriction.of(tree, only=text)) == {"Corvus corax", "Salmo trutta"}
    # A list of the species of a country as GBIF gives it: the rank of the leaves counts.
    table = tmp_path / "gbif.tsv"
    table.write_text(
        "taxonKey\tscientificName\tclass\tspecies\n"
        "1\tCorvus corax Linnaeus, 1758\tAves\tCorvus corax\n"
        "2\tErithacus Cuvier, 1800\tAves\t\n",
        "utf-8",
    )
    assert names(tree, Restriction.of(tree, only=table)) == {"Corvus corax"}
    excluded = Restriction.of(tree, subtrees=["Aves"], exclude=table)
    assert names(tree, excluded) == {"Corvus corone", "Erithacus rubecula"}


def test_only_paths_to_what_is_left_are_allowed(tree: Taxonomy) -> None:
    restriction = Restriction.of(tree, subtrees=["Corvus corax"])
    assert restriction is not None
    aves, corvus = tree["Aves"], tree["Aves/Corvus"]
    assert restriction.allows(tree.root, aves)
    assert restriction.allows(aves, corvus)
    assert not restriction.allows(aves, tree["Aves/Erithacus"])
    assert not restriction.allows(corvus, corvus)
    assert not restriction.allows(tree.root, tree["Pisces"])


def test_names_that_are_not_there_are_said(
    tree: Taxonomy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = tmp_path / "list.txt"
    text.write_text("Corvus corax\nPanthera leo\n", "utf-8")
    Restriction.of(tree, only=text)
    assert f"--only {text}: 1 of 2 names are not in the taxonomy: 'Panthera leo'" in caplog.text
    text.write_text("Panthera leo\n", "utf-8")
    with pytest.raises(ConfigError, match=r"none of its 1 names is in tree\.csv: 'Panthera leo'"):
        Restriction.of(tree, only=text)
    with pytest.raises(
        ConfigError, match=r"no node of tree\.csv has this name; did you mean Corvus"
    ):
        Restriction.of(tree, subtrees=["Corvos"])
    text.write_text("Aves\n", "utf-8")
    with pytest.raises(ConfigError, match="leave no leaf"):
        Restriction.of(tree, subtrees=["Corvus"], exclude=text)
    with pytest.raises(ConfigError, match="no such list of names"):
        Restriction.of(tree, only=tmp_path / "absent.txt")


def test_a_pipe_is_a_list(tree: Taxonomy, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("raven\nrobin\n",))
    writer.start()
    found = names(tree, Restriction.of(tree, only=pipe))
    writer.join()
    assert found == {"Corvus corax", "Erithacus rubecula"}


def test_what_leaves_everything_is_no_restriction(tree: Taxonomy) -> None:
    assert Restriction.of(tree) is None
    assert Restriction.of(tree, subtrees=["Aves", "Pisces"]) is None


def test_real_names_of_a_taxonomy_are_found(shared_data: Path, tmp_path: Path) -> None:
    tree = Taxonomy.load(shared_data / "taxonomies" / "hierarchy_CUB200.json")
    some = sorted(tree.leaf_ids)[:7]
    text = tmp_path / "some.txt"
    text.write_text("\n".join(tree[leaf_id].name.upper() for leaf_id in some), "utf-8")
    restriction = Restriction.of(tree, only=text)
    assert restriction is not None
    assert restriction.leaf_ids >= set(some)
