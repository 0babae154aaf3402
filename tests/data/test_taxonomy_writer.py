"""Write all of a taxonomy, and read the same one again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from random_taxonomies import taxonomies

from sekd.data.taxonomies import LeafPath
from sekd.data.taxonomy import Taxonomy
from sekd.data.taxonomy_writer import write_taxonomy
from sekd.errors import ConfigError


@given(taxonomy=taxonomies())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_taxonomy_is_read_again_as_it_was_written(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "taxonomy.json"
    write_taxonomy(taxonomy, path)
    again = Taxonomy.load(path)
    assert again.digest() == taxonomy.digest()
    assert again.leaf_ids == taxonomy.leaf_ids
    assert again.root == taxonomy.root


def test_labels_ranks_and_all_names_of_a_leaf_are_kept(tmp_path: Path) -> None:
    raven = LeafPath(
        "a file", "Class_3", (("Corvus", "genus"), ("Corvus corax", "species")), "raven", ("12",)
    )
    gull = LeafPath("a file", "Larus", (("Larus", "genus"),))
    taxonomy = Taxonomy([raven, gull], "birds")
    write_taxonomy(taxonomy, tmp_path / "taxonomy.json")
    again = Taxonomy.load(tmp_path / "taxonomy.json")
    assert again.digest() == taxonomy.digest()
    assert again.labelled_leaves() == taxonomy.labelled_leaves()
    (leaf,) = again.leaves_labelled("class_3")
    assert (leaf.rank, again.common_name(leaf)) == ("species", "raven")


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        ({"names": ["a", "b"], "ranks": ["genus"]}, "leaf 1: expected as many names as ranks"),
        ({"names": [], "ranks": []}, "leaf 1: expected as many names as ranks"),
        ({"names": ["a"], "ranks": ["genus"], "label": 3}, "leaf 1: its label and other names"),
    ],
)
def test_a_leaf_that_sekd_does_not_write_is_refused_with_its_place(
    tmp_path: Path, leaf: object, message: str
) -> None:
    path = tmp_path / "taxonomy.json"
    path.write_text(json.dumps({"leaves": [leaf]}), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        Taxonomy.load(path)
