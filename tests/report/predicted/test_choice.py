"""Tests of which images a page shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sekd.report.predicted.choice import choose_shown

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def of_leaves(sizes: list[int]) -> tuple[list[int], list[float]]:
    """So many images of each leaf, with probabilities that all differ."""
    leaves = [leaf for leaf, size in enumerate(sizes) for _ in range(size)]
    return leaves, [1 / (2 + number * 7 % 97) for number in range(len(leaves))]


@given(SIZES, st.integers(1, 40))
def test_the_choice_is_bounded_and_sorted(sizes: list[int], limit: int) -> None:
    leaves, probabilities = of_leaves(sizes)
    chosen = choose_shown(leaves, probabilities, limit)
    assert len(chosen) == min(limit, len(leaves))
    assert len(set(chosen)) == len(chosen)
    assert chosen == sorted(chosen, key=lambda position: -probabilities[position])


@given(SIZES, st.integers(6, 40))
def test_every_leaf_is_shown_before_any_is_shown_much_more_often(
    sizes: list[int], limit: int
) -> None:
    leaves, probabilities = of_leaves(sizes)
    shown = [leaves[position] for position in choose_shown(leaves, probabilities, limit)]
    counts = [shown.count(leaf) for leaf in range(len(sizes))]
    assert min(counts) > 0
    for count, size in zip(counts, sizes, strict=True):
        assert count == size or count >= max(counts) - 1


def test_the_images_of_a_leaf_are_spread_over_their_probabilities() -> None:
    probabilities = [1 - number / 101 for number in range(101)]
    assert choose_shown([0] * 101, probabilities, 3) == [0, 50, 100]
    assert choose_shown([0] * 101, probabilities, 1) == [0]


def test_equally_probable_images_stay_in_their_order() -> None:
    assert choose_shown([0, 0, 0], [0.5, 0.5, 0.9], 9) == [2, 0, 1]
    assert choose_shown([], [], 9) == []
