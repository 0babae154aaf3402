"""Accuracy by rank where paths lack a rank in the middle."""

from __future__ import annotations

import pytest

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellResult, CellRows
from sekd.analysis.results import Evaluation
from sekd.analysis.summary import summarize
from sekd.config import EvaluateSpec
from sekd.data.predictions import Prediction, to_table
from sekd.data.taxonomies.base import LeafPath
from sekd.data.taxonomy import Taxonomy
from sekd.report.tables import cells_table

RANKS = ("class", "order", "family")


def taxonomy(*paths: str) -> Taxonomy:
    """A CSV of ranks; "-" is an empty cell. The one class is the root, which is not asked."""
    leaves = []
    for number, path in enumerate(paths, start=2):
        ranked = [(n, r) for n, r in zip(path.split(), RANKS, strict=True) if n != "-"]
        leaves.append(LeafPath(f"t.csv, line {number}", ranked[-1][0], tuple(ranked)))
    return Taxonomy.from_leaves(leaves, "t.csv")


def evaluate(tree: Taxonomy, wrong: set[str]) -> Evaluation:
    rows = [
        Prediction(
            **CellKey("d", "base", "joint")._asdict(),
            sample_id=leaf,
            level=node.depth,
            rank=node.rank,
            options=(node.id,),
            truth=node.id,
            prediction=None if node.name in wrong else node.id,
            option_logprobs=None,
        )
        for leaf in tree.labels
        for node in tree.path(tree.leaf(leaf))
    ]
    cell = CellRows(CellKey("d", "base", "joint"), tree, to_table(rows), 0, None)
    return summarize([cell], EvaluateSpec(num_bootstrap=5), tree)


def test_a_family_without_an_order_counts_with_the_families() -> None:
    tree = taxonomy("aves gulls laridae", "aves gulls alcidae", "aves - picidae")
    evaluation = evaluate(tree, {"laridae"})
    (cell,) = evaluation.cells.values()
    values = {rank: (rate.value, rate.num_samples) for rank, rate in cell.ranks.items()}
    assert values == {
        "order": (100.0, 2),
        "family": (pytest.approx(200 / 3), 3),
    }
    assert [column.heading for column in cells_table(evaluation).columns][-2:] == list(RANKS[1:])
    assert CellResult.from_json(cell.to_json()).ranks == cell.ranks


def test_levels_say_it_where_each_rank_has_one_depth() -> None:
    evaluation = evaluate(taxonomy("aves gulls laridae", "aves auks alcidae"), set())
    (cell,) = evaluation.cells.values()
    assert cell.ranks == {}
    assert "rank_accuracy" not in cell.to_json()
