"""The children of a node as a descent asks about them: options, groups, and their probabilities."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.data.branching import Branches, count_questions, deal_groups, join_groups
from sekd.data.taxonomy import Node, Taxonomy


@given(num_options=st.integers(1, 300), max_options=st.integers(2, 26), seed=st.integers())
@settings(max_examples=200, deadline=None)
def test_groups_hold_each_option_once_and_are_balanced(
    num_options: int, max_options: int, seed: int
) -> None:
    options = [Node(str(n), str(n), "r", 1, "") for n in range(num_options)]
    groups = deal_groups(options, max_options, random.Random(seed))
    sizes = [len(group) for group in groups]
    assert sorted(node.id for group in groups for node in group) == sorted(
        node.id for node in options
    )
    assert max(sizes) <= max_options
    assert max(sizes) - min(sizes) <= 1
    assert len(groups) == -(-num_options // max_options)


@given(num_options=st.integers(0, 300), max_options=st.integers(2, 26))
@settings(max_examples=200, deadline=None)
def test_the_number_of_questions_is_that_of_the_groups_that_are_asked(
    num_options: int, max_options: int
) -> None:
    asked, left = 0, num_options
    while left > 1:
        options = [Node(str(n), str(n), "r", 1, "") for n in range(left)]
        groups = deal_groups(options, max_options, random.Random(0))
        asked += sum(len(group) > 1 for group in groups)
        left = len(groups)
    assert count_questions(num_options, max_options) == asked


def test_a_node_of_216_children_takes_ten_questions_of_26_options() -> None:
    assert count_questions(216, 26) == 9 + 1
    assert count_questions(216, 10) == 22 + 3 + 1


weights = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6)


@given(groups=st.lists(weights, min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_where_odds_do_not_depend_on_the_other_options_groups_change_nothing(
    groups: list[list[float]],
) -> None:
    """Luce's choice axiom: each question gives the shares of one set of weights."""
    within = [np.array(group) / sum(group) for group in groups]
    winners = np.array([max(group) for group in groups])
    joined = np.concatenate(join_groups(within, winners / winners.sum()))
    everything = np.array([weight for group in groups for weight in group])
    np.testing.assert_allclose(joined, everything / everything.sum(), rtol=1e-9)


@given(groups=st.lists(weights, min_size=2, max_size=6), data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_winner_of_the_winners_is_the_most_probable_node(
    groups: list[list[float]], data: st.DataObject
) -> None:
    within = [np.array(group) / sum(group) for group in groups]
    among = np.array(
        data.draw(st.lists(st.floats(0, 1), min_size=len(groups), max_size=len(groups)))
    )
    among[data.draw(st.integers(0, len(groups) - 1))] = 2.0
    joined = join_groups(within, among / among.sum())
    assert sum(group.sum() for group in joined) == pytest.approx(1.0)
    best = int(among.argmax())
    assert joined[best].max() == max(group.max() for group in joined)


def test_a_path_may_end_at_a_leaf_with_children() -> None:
    taxonomy = Taxonomy.from_paths({"a": ["r", "x", "a"], "x": ["r", "x"], "b": ["r", "y", "b"]})
    branches = Branches.below(taxonomy, taxonomy["r/x"])
    assert branches is not None
    assert [node.id for node in branches.nodes] == ["r/x/a", "r/x"]
    assert branches.rank == "level 2"
    assert Branches.below(taxonomy, taxonomy["r/x/a"]) is None


def test_siblings_that_read_alike_share_a_probability() -> None:
    taxonomy = Taxonomy.from_paths({"1": ["r", "Red"], "2": ["r", "red "], "3": ["r", "blue"]})
    branches = Branches.below(taxonomy, taxonomy.root)
    assert branches is not None
    assert [node.name for node in branches.options] == ["Red", "blue"]
    shares = branches.spread({"r/Red": 0.6, "r/blue": 0.4})
    np.testing.assert_allclose(shares, [0.3, 0.3, 0.4])


def test_a_question_asks_for_the_rank_that_most_children_have(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("order,family,genus\nx,a,\nx,,b\nx,,c\n")
    taxonomy = Taxonomy.load(tmp_path / "t.csv")
    (order,) = (node for node in taxonomy.nodes if node.name == "x")
    branches = Branches.below(taxonomy, order)
    assert branches is not None
    assert branches.rank == "genus"


@pytest.mark.parametrize("max_options", [2, 10, 26])
def test_no_leaf_of_a_real_taxonomy_is_out_of_reach(shared_data: Path, max_options: int) -> None:
    """Every step to every leaf is an option of a question that has few enough of them."""
    files = sorted((shared_data / "taxonomies").glob("*.json"))
    assert files
    for file in files:
        taxonomy = Taxonomy.load(file)
        rng = random.Random(0)
        reachable = {taxonomy.root.id}
        ends = set()
        for node in taxonomy.nodes:  # a parent comes before its children
            assert node.id in reachable, (file.name, node.id)
            branches = Branches.below(taxonomy, node)
            if branches is None:
                ends.add(node.id)
                continue
            options = branches.options
            while len(options) > max_options:  # any node may be the winner of its group
                groups = deal_groups(options, max_options, rng)
                assert max(map(len, groups)) <= max_options
                options = [rng.choice(group) for group in groups]
            probabilities = branches.spread({each.id: 1.0 for each in branches.options})
            assert (probabilities > 0).all()
            reachable |= {each.id for each in branches.nodes}
            ends |= {each.id for each in branches.nodes if each is node}
        assert ends == taxonomy.leaf_ids, file.name
