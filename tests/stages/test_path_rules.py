"""Rules about paths: what a restriction and temperatures make of a distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.data.taxonomy import Taxonomy
from sekd.stages.path_rules import NO_RULES, PathRules
from sekd.stages.restriction import Restriction

TREE = Taxonomy.from_paths(
    {name: ["life", name] for name in "abcdef"}, level_names=["root", "species"]
)
CHILDREN = TREE.children(TREE.root)
LOGITS = st.lists(st.floats(-30, 30), min_size=6, max_size=6)


def distribution(logits: list[float]) -> np.ndarray:
    values = np.array(logits)
    return values - np.logaddexp.reduce(values)


@settings(deadline=None)
@given(LOGITS, st.sets(st.sampled_from("abcdef"), min_size=1), st.floats(0.1, 10))
def test_what_is_left_is_a_distribution_in_the_same_order(
    logits: list[float], kept: set[str], temperature: float
) -> None:
    allowed = Restriction.to_leaves(TREE, {TREE.leaf(name).id for name in kept})
    rules = PathRules(restriction=allowed, temperatures={1: temperature})
    logprobs, outside = rules.adjust(TREE.root, CHILDREN, distribution(logits))
    probabilities = np.exp(logprobs)
    assert probabilities.sum() == pytest.approx(1)
    is_kept = np.array([node.name in kept for node in CHILDREN])
    assert (probabilities[~is_kept] == 0).all()
    scaled = np.exp(distribution(list(np.array(logits) / temperature)))
    assert outside == pytest.approx(scaled[~is_kept].sum(), abs=1e-9)
    assert probabilities[is_kept] * (1 - outside) == pytest.approx(scaled[is_kept], abs=1e-9)


@given(LOGITS)
def test_without_rules_nothing_changes(logits: list[float]) -> None:
    before = distribution(logits)
    logprobs, outside = NO_RULES.adjust(TREE.root, CHILDREN, before)
    assert (logprobs == before).all()
    assert outside == 0
    assert not NO_RULES.adjusts


def test_children_that_the_model_rules_out_share_what_is_left() -> None:
    allowed = Restriction.to_leaves(TREE, {TREE.leaf("a").id, TREE.leaf("b").id})
    before = np.array([-np.inf, -np.inf, 0.0, -np.inf, -np.inf, -np.inf])
    logprobs, outside = PathRules(restriction=allowed).adjust(TREE.root, CHILDREN, before)
    assert np.exp(logprobs[:2]) == pytest.approx([0.5, 0.5])
    assert outside == 1


def test_a_temperature_counts_for_its_level_alone() -> None:
    before = distribution([1, 2, 3, 4, 5, 6])
    logprobs, _ = PathRules(temperatures={2: 3.0}).adjust(TREE.root, CHILDREN, before)
    assert (logprobs == before).all()
