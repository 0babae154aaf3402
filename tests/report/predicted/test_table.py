"""Predictions in a terminal: what was accepted, what a restriction took away, in 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from sekd.data.path_predictions import PathPrediction, PredictedLevel, RankedPath
from sekd.report.predicted.table import predictions_table
from sekd.report.writers import to_terminal


def prediction(image: str, outside: float | None = None, num_paths: int = 1) -> PathPrediction:
    levels = (
        PredictedLevel("genus", "Corvus", "Corvus", None, 0.9, 0.9),
        PredictedLevel("species", "Corvus/Corvus corax", "Corvus corax", "raven", 0.5, 0.45),
    )
    paths = [RankedPath("Corvus/Corvus corax", ("Corvus", "Corvus corax"), 0.45)]
    paths += [RankedPath("Corvus/Corvus corone", ("Corvus", "Corvus corone"), 0.3)]
    return PathPrediction(
        image=image, levels=levels, outside=outside, paths=tuple(paths[:num_paths])
    )


def shown(predictions: list[PathPrediction]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(to_terminal(predictions_table(predictions, "Predictions"), 80))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= 80 for line in text.splitlines())
    return text


FOLDER = "photos/of/a/long/journey/through/many/countries"


def test_the_deepest_accepted_rank_is_shown_with_what_was_left_out() -> None:
    images = [f"{FOLDER}/IMG_{number:030}.jpg" for number in range(2)]
    text = shown([prediction(image, outside=0.25).accept(0.8) for image in images])
    assert f"Predictions in {FOLDER}" in text
    assert "…0000000000000000000000001.jpg" in text
    for cell in ("Corvus ", "0.900", "genus", "0.250"):
        assert cell in text


def test_a_whole_path_has_its_common_name() -> None:
    text = shown([prediction("a.jpg").accept(0.0)])
    assert "raven" in text
    assert "best guess" not in text
    assert "outside" not in text


def test_several_paths_are_rows_of_one_image() -> None:
    text = shown([prediction(f"{name}.jpg", 0.125, 2).accept(0.0) for name in "ab"])
    assert text.count("Corvus corone") >= 2
    assert text.count("a.jpg") == 1
    assert text.count("0.125") == 2


def test_nothing_accepted_is_said() -> None:
    assert " - " in shown([prediction("a.jpg").accept(0.99)])
