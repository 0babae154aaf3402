"""Tests of the figures about predicted paths."""

from __future__ import annotations

from dataclasses import replace

from predicted_paths import GULL, OWL, predicted

from sekd.data.path_predictions import PathPrediction
from sekd.report.predicted import summary
from sekd.report.predicted.summary import (
    Figure,
    confidence_legend,
    draw_confidence,
    make_figures,
    nodes_table,
)
from sekd.report.predicted.tally import Tally

PREDICTIONS = [
    predicted("a.png", GULL, (1, 0.9, 0.5)),
    predicted("b.png", GULL, (0.8, 0.5, 0.5)),
    predicted("c.png", OWL, (1, 1, 1)),
    PathPrediction(image="d.png", error="no image"),
]


def tally_of(predictions: list[PathPrediction]) -> Tally:
    return Tally.of(predictions, max_failures=9)


def figures_of(
    predictions: list[PathPrediction], min_confidence: float, restriction: str | None = None
) -> dict[str, Figure]:
    """Title -> figure."""
    figures = make_figures(tally_of(predictions), min_confidence, restriction)
    return {figure.title: figure for figure in figures}


def test_figures_count_images_failures_and_trusted_paths() -> None:
    trusting = [each.accept(0.4) for each in PREDICTIONS]
    figures = figures_of(trusting, 0.4)
    assert figures.keys() == {"Images", "Trusted to the end", "Confidence"}
    assert figures["Images"].value == "4"
    assert "3 have a path" in figures["Images"].meaning
    assert "1 failed" in figures["Images"].caution
    assert figures["Trusted to the end"].value == "67 %"
    assert figures["Confidence"].value == "45 %"
    assert figures["Confidence"].caution.startswith("uncalibrated")


def test_calibrated_paths_need_no_caution_and_mixed_ones_are_counted() -> None:
    calibrated = [replace(each, is_calibrated=True) for each in PREDICTIONS[:3]]
    assert figures_of(calibrated, 0)["Confidence"].caution == ""
    mixed = figures_of([*calibrated, PREDICTIONS[0]], 0)["Confidence"].caution
    assert mixed.startswith("1 of them are uncalibrated")


def test_a_restriction_says_what_it_took_away() -> None:
    restricted = [replace(each, outside=0.25) for each in PREDICTIONS[:2]]
    outside = figures_of(restricted, 0, "2 of 9 leaves")["Outside"]
    assert outside.value == "25 %"
    assert "Restricted to 2 of 9 leaves" in outside.meaning


def test_without_any_path_only_the_failures_are_counted() -> None:
    assert figures_of(PREDICTIONS[3:], 0.5, "2 of 9 leaves").keys() == {"Images"}
    assert draw_confidence(tally_of(PREDICTIONS[3:])) is None


def test_the_drawing_shows_the_share_of_each_band_at_each_rank() -> None:
    drawing = draw_confidence(tally_of(PREDICTIONS[:3]))
    assert drawing is not None
    assert "class: at least 90 % 66.7, 70 to 90 % 33.3." in drawing
    assert "species: at least 90 % 33.3, 30 to 50 % 33.3, below 30 % 33.3." in drawing
    assert list(confidence_legend())[-1] == "below 30 %"


def test_nodes_are_counted_from_the_top_down() -> None:
    table = nodes_table(tally_of(PREDICTIONS[:3]))
    rows = [row[:3] for row in table.rows]
    assert rows == [
        ["class", "bird", 3],
        ["order", "gulls", 2],
        ["order", "owls", 1],
        ["species", "herring gull", 2],
        ["species", "barn owl", 1],
    ]
    assert table.rows[1][3] == 100 * (0.9 + 0.4) / 2
    assert not table.note


def test_a_long_table_of_nodes_says_what_it_leaves_out() -> None:
    predictions = [
        predicted(f"{n}.png", ("bird", f"order {n}"), (1, 1)) for n in range(summary.NUM_NODES + 4)
    ]
    table = nodes_table(tally_of(predictions))
    assert len(table.rows) == summary.NUM_NODES
    assert table.note == "5 nodes with fewer images are left out."
