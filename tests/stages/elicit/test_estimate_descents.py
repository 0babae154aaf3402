"""The number of questions of a descent, from the widths of real taxonomies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sekd.data.branching import Branches, count_questions
from sekd.data.taxonomy import Node, Taxonomy
from sekd.stages.elicit.estimate_descents import questions_by_node


def questions_to(taxonomy: Taxonomy, leaf: Node, max_options: int) -> int:
    """Count along one path, from the root to the end of the path at the leaf."""
    count = 0
    for node in [taxonomy.root, *taxonomy.path(leaf)]:
        branches = Branches.below(taxonomy, node)
        count += count_questions(len(branches.options) if branches else 0, max_options)
    return count


@pytest.mark.parametrize("max_options", [4, 10, 26])
@pytest.mark.parametrize("name", ["hierarchy_CUB200.json", "hierarchy_Inat_animal.json"])
def test_questions_are_counted_along_every_path(
    shared_data: Path, name: str, max_options: int
) -> None:
    taxonomy = Taxonomy.load(shared_data / "taxonomies" / name)
    counts = questions_by_node(taxonomy, max_options)
    nodes = list(taxonomy.nodes)
    rng = np.random.default_rng(0)
    for number in rng.choice(len(nodes), size=min(200, len(nodes)), replace=False).tolist():
        assert counts[number] == questions_to(taxonomy, nodes[number], max_options)


def test_single_children_cost_nothing() -> None:
    taxonomy = Taxonomy.from_paths({"a": ["r", "x", "y", "a"], "b": ["r", "x", "y", "b"]})
    counts = dict(
        zip([node.id for node in taxonomy.nodes], questions_by_node(taxonomy, 10), strict=True)
    )
    assert counts["r/x/y/a"] == counts["r/x/y/b"] == 1
    assert counts["r"] == 0
