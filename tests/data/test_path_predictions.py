"""Predicted paths: where they are trusted, how they are stored, and their flat rows."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.data.path_predictions import (
    PATH_PREDICTION_SCHEMA,
    FlatRows,
    PathPrediction,
    PredictedLevel,
    RankedPath,
    paths_from_table,
    paths_to_table,
)
from sekd.data.taxonomies.base import LeafPath
from sekd.data.taxonomy import Taxonomy

PROBABILITIES = st.floats(0, 1)


def prediction_of(probabilities: list[float], image: str = "a.jpg") -> PathPrediction:
    """A prediction with a level for each probability, which is that of the node alone."""
    levels, path_probability = [], 1.0
    for number, probability in enumerate(probabilities, start=1):
        path_probability *= probability
        node = "/".join(f"n{n}" for n in range(1, number + 1))
        levels.append(
            PredictedLevel(f"rank{number}", node, f"n{number}", None, probability, path_probability)
        )
    return PathPrediction(image=image, levels=tuple(levels))


@settings(deadline=None)  # the first call of Arrow takes long
@given(st.lists(PROBABILITIES, min_size=1, max_size=6), PROBABILITIES)
def test_the_deepest_level_that_is_sure_enough_is_accepted(
    probabilities: list[float], floor: float
) -> None:
    prediction = prediction_of(probabilities).accept(floor)
    sure = [level for level in prediction.levels if level.path_probability >= floor]
    assert prediction.accepted == (sure[-1] if sure else None)
    assert (prediction.stopped is None) == (len(sure) == len(probabilities))


def test_a_stop_names_the_level_its_probability_and_the_limit() -> None:
    prediction = prediction_of([0.9, 0.5]).accept(0.8)
    assert prediction.accepted is not None
    assert prediction.accepted.name == "n1"
    assert prediction.stopped == "rank2: n2 has a probability of 0.45, less than 0.8"


@settings(deadline=None)  # the first call of Arrow takes long
@given(st.lists(st.lists(PROBABILITIES, max_size=4), max_size=3), PROBABILITIES)
def test_a_stored_prediction_is_read_as_it_was(rows: list[list[float]], floor: float) -> None:
    predictions = [
        prediction_of(row).accept(floor)
        if row
        else PathPrediction(image="b.jpg", error="not an image", outside=None)
        for row in rows
    ]
    table = paths_to_table(predictions)
    assert table.schema == PATH_PREDICTION_SCHEMA
    assert list(paths_from_table(table)) == predictions
    for prediction in predictions:
        assert json.loads(json.dumps(prediction.to_json()))["image"] == prediction.image


TAXONOMY = Taxonomy.from_leaves(
    [
        LeafPath("1", "Corvus corax", (("Aves", "class"), ("Corvus corax", "species")), "raven"),
        LeafPath("2", "Salmo trutta", (("Pisces", "class"), ("Salmo trutta", "species"))),
    ],
    "test",
)


def test_a_flat_row_has_a_name_and_a_probability_for_each_rank() -> None:
    levels = (
        PredictedLevel("class", "Aves", "Aves", None, 0.9, 0.9),
        PredictedLevel("species", "Aves/Corvus corax", "Corvus corax", "raven", 0.5, 0.45),
    )
    paths = (RankedPath("Aves/Corvus corax", ("Aves", "Corvus corax"), 0.45),)
    rows = FlatRows.of(TAXONOMY, num_paths=2)
    row = rows.row(PathPrediction(image="a.jpg", levels=levels, paths=paths).accept(0.8))
    assert row == {
        "image": "a.jpg",
        "class": "Aves",
        "class_probability": 0.9,
        "species": "Corvus corax",
        "species_probability": 0.45,
        "common_name": "raven",
        "leaf": "Aves/Corvus corax",
        "probability": 0.45,
        "accepted_rank": "class",
        "accepted_name": "Aves",
        "accepted_probability": 0.9,
        "stopped": "species: Corvus corax has a probability of 0.45, less than 0.8",
        "outside": None,
        "calibrated": False,
        "error": None,
        "path_1": "Aves/Corvus corax",
        "path_1_probability": 0.45,
        "path_2": None,
        "path_2_probability": None,
    }
    assert list(row) == rows.schema.names


def test_an_image_that_cannot_be_used_is_a_row_with_its_reason() -> None:
    row = FlatRows.of(TAXONOMY).row(PathPrediction(image="a.jpg", error="not an image"))
    assert {name for name, cell in row.items() if cell is not None} == {
        *("image", "calibrated", "error")
    }


NAMES = st.sampled_from(["image", "error", "error_probability", "path_1", "clade", "a", "rank a"])


@settings(deadline=None)  # the first call of Arrow takes long
@given(st.lists(st.lists(NAMES, min_size=1, max_size=5), min_size=1, max_size=3))
def test_no_two_columns_have_one_name_whatever_ranks_are_called(ranks: list[list[str]]) -> None:
    leaves = [
        LeafPath("1", f"leaf{i}", tuple((f"{i}.{depth}", rank) for depth, rank in enumerate(path)))
        for i, path in enumerate(ranks)
    ]
    taxonomy = Taxonomy.from_leaves(leaves, "test")
    rows = FlatRows.of(taxonomy, num_paths=2)
    assert len(set(rows.schema.names)) == len(rows.schema.names)
    for node in taxonomy.nodes:
        path = taxonomy.path(node)
        levels = [PredictedLevel(each.rank, each.id, each.name, None, 1.0, 1.0) for each in path]
        row = rows.row(PathPrediction(image="a.jpg", levels=tuple(levels)))
        assert {each.name for each in path} <= set(row.values())
