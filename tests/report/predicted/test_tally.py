"""Tests of the counts of predicted paths."""

from __future__ import annotations

from predicted_paths import GULL, OWL, predicted

from sekd.data.path_predictions import PathPrediction
from sekd.report.predicted.tally import NO_RANK, Tally

PREDICTIONS = [
    predicted("a.png", GULL, (1, 0.9, 0.4), "seagull").accept(0.5),
    PathPrediction(image="b.png", error="broken"),
    predicted("c.png", OWL, (1, 1, 1)).accept(0.5),
    PathPrediction(image="d.png", error="missing"),
    predicted("e.png", GULL, (0.25, 1, 1)).accept(0.5),
]


def test_paths_and_failures_are_counted() -> None:
    tally = Tally.of(PREDICTIONS, max_failures=1)
    assert (tally.num_named, tally.num_failed, tally.num_trusted) == (3, 2, 1)
    assert [each.image for each in tally.failures] == ["b.png"]
    assert tally.ranks == {"order": 1, "species": 1, NO_RANK: 1}
    assert list(tally.bands) == ["class", "order", "species"]
    assert tally.bands["order"] == [2, 0, 0, 0, 1]
    assert [tally.rank_depth(rank) for rank in (NO_RANK, "class", "species")] == [0, 1, 3]


def test_nodes_know_their_images_and_leaves_are_numbered() -> None:
    tally = Tally.of(PREDICTIONS, max_failures=1)
    gull = tally.nodes["root/bird/gulls/herring gull"]
    assert (gull.num_images, gull.depth, gull.label) == (2, 3, "herring gull (seagull)")
    assert gull.total == 0.9 * 0.4 + 0.25
    assert list(tally.leaves) == [0, 1, 0]
    assert list(tally.probabilities) == [0.9 * 0.4, 1.0, 0.25]
