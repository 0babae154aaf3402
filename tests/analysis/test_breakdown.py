"""Subtrees and nodes: the parts say what the whole says, and which node is taken for which."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pyarrow as pa
import pytest

from sekd.analysis.breakdown import score_nodes, score_subtrees
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import paths_of
from sekd.analysis.rates import compute_metrics
from sekd.data.taxonomy import Taxonomy

Rows = Callable[[dict[str, str]], pa.Table]
SAMPLES = {
    "1": "a: x a",
    "2": "a: x b",
    "3": "a: x b",
    "4": "a: y c",
    "5": "a: x -",
    "6": "c: y c",
    "7": "z: x",
    "8": "z: -",
}


def test_a_subtree_has_the_metrics_of_its_samples_alone(tree: Taxonomy, rows_of: Rows) -> None:
    subtrees = score_subtrees(paths_of(rows_of(SAMPLES), tree), 1)
    assert [subtree.root.node for subtree in subtrees] == ["r/x", "r/y", "r/z"]
    assert [subtree.metrics.num_samples for subtree in subtrees] == [5, 1, 2]
    for subtree, leaf in zip(subtrees, "acz", strict=True):
        alone = {sample: text for sample, text in SAMPLES.items() if text.startswith(leaf)}
        outcomes = Outcomes.of(paths_of(rows_of(alone), tree))
        metrics = compute_metrics(outcomes)
        assert subtree.metrics == metrics
        assert subtree.to_json() == {
            "node": subtree.root.node,
            "name": subtree.root.name,
            "level": 1,
            **metrics.to_json(),
        }
    assert list(subtrees[2].metrics.levels["level_accuracy"]) == [1]


def test_samples_that_do_not_reach_a_level_are_in_no_subtree_of_it(
    tree: Taxonomy, rows_of: Rows
) -> None:
    paths = paths_of(rows_of(SAMPLES), tree)
    subtrees = score_subtrees(paths, 2)
    assert [(subtree.root.name, subtree.metrics.num_samples) for subtree in subtrees] == [
        ("a", 5),
        ("c", 1),
    ]
    for level in (0, 3):
        with pytest.raises(ValueError, match=f"level {level} is not scored; give 1 to 2"):
            score_subtrees(paths, level)


def test_nodes_list_their_most_frequent_wrong_answers(tree: Taxonomy, rows_of: Rows) -> None:
    found = [node.to_json() for node in score_nodes(paths_of(rows_of(SAMPLES), tree))]
    assert json.loads(json.dumps(found)) == found
    by_id = {each["node"]: each for each in found}
    assert list(by_id) == ["r/x", "r/x/a", "r/y", "r/y/c", "r/z"]
    a = by_id["r/x/a"]
    assert a["accuracy"]["value"] == 20
    assert (a["num_samples"], a["num_unparsed"], a["level"]) == (5, 1, 2)
    assert a["confused_with"] == [
        {"node": "r/x/b", "name": "b", "count": 2},
        {"node": "r/y/c", "name": "c", "count": 1},
    ]
    assert by_id["r/y/c"]["confused_with"] == []
    for node_id, value in (("r/y/c", 100), ("r/z", 0)):
        accuracy = by_id[node_id]["accuracy"]
        assert accuracy["value"] == value
        assert accuracy["num_samples"] == by_id[node_id]["num_samples"]
        assert accuracy["high"] - accuracy["low"] > 50  # two samples or fewer


def test_a_nodes_interval_is_that_of_its_samples(tree: Taxonomy, rows_of: Rows) -> None:
    rng = random.Random(0)
    samples = {str(i): f"z: {'z' if rng.random() < 0.3 else 'x'}" for i in range(400)}
    paths = paths_of(rows_of(samples), tree)
    (node,) = score_nodes(paths)
    whole = compute_metrics(Outcomes.of(paths)).rate("hca")
    assert whole is not None
    assert node.accuracy.to_json() == pytest.approx(whole.to_json())
