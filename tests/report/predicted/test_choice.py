"""Tests of which images a page shows."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from predicted_paths import predicted

from sekd.data.path_predictions import PathPrediction
from sekd.report.predicted.choice import by_probability, choose_shown

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def of_leaves(sizes: list[int]) -> list[PathPrediction]:
    """So many predictions of each leaf, with probabilities that all differ."""
    return [
        predicted(f"{leaf}-{n}.png", (f"leaf {leaf}",), (1 / (1 + n + leaf / 10),))
        for leaf, size in enumerate(sizes)
        for n in range(size)
    ]


@given(SIZES, st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_choice_is_bounded_sorted_and_independent_of_the_order(
    sizes: list[int], limit: int, rng: random.Random
) -> None:
    predictions = of_leaves(sizes)
    chosen = choose_shown(predictions, limit)
    assert len(chosen) == min(limit, len(predictions))
    assert len({each.image for each in chosen}) == len(chosen)
    assert chosen == sorted(chosen, key=by_probability)
    rng.shuffle(predictions)
    assert choose_shown(predictions, limit) == chosen


@given(SIZES, st.integers(6, 40))
def test_every_leaf_is_shown_before_any_is_shown_much_more_often(
    sizes: list[int], limit: int
) -> None:
    chosen = choose_shown(of_leaves(sizes), limit)
    counts = [
        sum(each.levels[-1].name == f"leaf {leaf}" for each in chosen) for leaf in range(len(sizes))
    ]
    assert min(counts) > 0
    for count, size in zip(counts, sizes, strict=True):
        assert count == size or count >= max(counts) - 1


def test_the_images_of_a_leaf_are_spread_over_their_probabilities() -> None:
    predictions = [predicted(f"{n:03}.png", ("leaf",), (1 - n / 101,)) for n in range(101)]
    assert [each.image for each in choose_shown(predictions, 3)] == [
        "000.png",
        "050.png",
        "100.png",
    ]
