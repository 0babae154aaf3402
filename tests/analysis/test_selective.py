"""Accuracy against coverage, by hand and by its laws."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.analysis.calibration import measure_calibration
from sekd.analysis.selective import NUM_POINTS, SelectiveCurve, selective_curves
from sekd.data.predictions import Prediction, to_table


def row(sample: int, level: int, *, is_right: bool, path: float | None, **other: Any) -> Prediction:
    return Prediction(
        model="base",
        dataset="birds",
        paradigm="descent",
        sample_id=str(sample),
        level=level,
        rank="order",
        options=("a", "b"),
        truth="a",
        prediction="a" if is_right else "b",
        option_logprobs=[math.log(0.6), math.log(0.4)],
        path_logprob=None if path is None else math.log(path),
        **other,
    )


def curve_of(*answers: tuple[float, bool]) -> SelectiveCurve:
    rows = [row(n, 1, is_right=right, path=path) for n, (path, right) in enumerate(answers)]
    return selective_curves(to_table(rows))[1]


def test_the_most_confident_answers_come_first() -> None:
    curve = curve_of((0.5, False), (0.9, True), (0.7, True), (0.1, False))
    points = [(p.threshold, p.coverage, p.accuracy, p.num_answers) for p in curve.points]
    assert points == [
        (pytest.approx(90), 25.0, 100.0, 1),
        (pytest.approx(70), 50.0, 100.0, 2),
        (pytest.approx(50), 75.0, pytest.approx(200 / 3), 3),
        (pytest.approx(10), 100.0, 50.0, 4),
    ]
    assert SelectiveCurve.from_json(curve.to_json()) == curve


def test_answers_of_one_confidence_are_kept_together() -> None:
    (point,) = curve_of((0.5, False), (0.5, True), (0.5, True)).points
    assert (point.coverage, point.accuracy) == (100.0, pytest.approx(200 / 3))


def test_answers_without_a_confidence_are_never_kept_but_count() -> None:
    rows = [
        row(0, 1, is_right=True, path=0.5),
        Prediction(model="base", dataset="birds", paradigm="joint", sample_id="1", level=1,
                   rank="order", options=("a", "b"), truth="a", prediction=None),
    ]  # fmt: skip
    (point,) = selective_curves(to_table(rows))[1].points
    assert (point.coverage, point.accuracy) == (50.0, 100.0)
    assert selective_curves(to_table(rows[1:])) == {}


def test_without_the_probability_of_a_path_there_is_no_curve() -> None:
    rows = to_table([row(0, 2, is_right=False, path=None)])
    assert selective_curves(rows) == {}
    assert selective_curves(rows.drop_columns(["path_logprob"])) == {}


def test_calibration_takes_the_probability_of_the_path_and_no_given_level() -> None:
    rows = [row(n, 1, is_right=True, path=0.25) for n in range(3)]
    given_level = row(3, 1, is_right=True, path=0.9)
    alone = to_table(rows).to_pylist()
    single = to_table([given_level]).to_pylist()[0] | {"options": ["a"], "option_logprobs": [0.0]}
    table = pa.Table.from_pylist([*alone, single], to_table(rows).schema)
    calibration = measure_calibration(table)
    assert calibration is not None
    assert calibration.all.num_answers == 3
    assert calibration.all.confidence == pytest.approx(25)


@given(answers=st.lists(st.tuples(st.floats(0.01, 1.0), st.booleans()), min_size=1, max_size=80))
@settings(max_examples=60, deadline=None)
def test_a_curve_keeps_more_and_more_and_ends_with_everything(
    answers: list[tuple[float, bool]],
) -> None:
    points = curve_of(*answers).points
    assert 1 <= len(points) <= NUM_POINTS
    for before, after in pairwise(points):
        assert before.threshold > after.threshold
        assert before.coverage < after.coverage
    assert points[-1].coverage == pytest.approx(100)
    assert points[-1].accuracy == pytest.approx(100 * sum(r for _, r in answers) / len(answers))
