"""Temperatures: fitted ones find the right one back, and scaling keeps what it must keep."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.analysis.calibration import measure_calibration
from sekd.analysis.temperature import (
    HIGHEST,
    LOWEST,
    Choices,
    apply_temperatures,
    choices_by_level,
    fit_temperature,
    scale,
)
from sekd.data.predictions import Prediction, to_table

distributions = st.lists(st.floats(-30, 5), min_size=2, max_size=6)
temperatures = st.floats(LOWEST, HIGHEST)


def draw_choices(num_questions: int, temperature: float, seed: int = 0) -> Choices:
    """Draw questions whose right children follow the model's probabilities at a temperature."""
    rng = np.random.default_rng(seed)
    logprobs: list[float] = []
    starts, truths = [], []
    for _ in range(num_questions):
        own = scale(rng.normal(0, 3, rng.integers(2, 6)), 1.0)
        starts.append(len(logprobs))
        truths.append(len(logprobs) + rng.choice(len(own), p=np.exp(scale(own, temperature))))
        logprobs += own.tolist()
    return Choices(np.array(logprobs), np.array(starts), np.array(truths))


@given(distributions, temperatures)
def test_scaling_gives_a_distribution_with_the_same_order(
    logprobs: list[float], temperature: float
) -> None:
    scaled = scale(np.array(logprobs), temperature)
    assert np.exp(scaled).sum() == pytest.approx(1)
    order = np.argsort(logprobs)
    assert (np.diff(scaled[order]) >= -1e-9).all()


@given(distributions, temperatures, temperatures)
def test_temperatures_multiply(logprobs: list[float], one: float, other: float) -> None:
    twice = scale(scale(np.array(logprobs), one), other)
    np.testing.assert_allclose(twice, scale(np.array(logprobs), one * other), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_fit_finds_the_temperature_that_the_answers_follow(temperature: float) -> None:
    choices = draw_choices(20_000, temperature)
    fitted = fit_temperature(choices)
    assert fitted == pytest.approx(temperature, rel=0.05)
    assert choices.loss(fitted) <= min(choices.loss(fitted * 0.9), choices.loss(fitted * 1.1))
    assert choices.calibration_error(fitted) < 1.5
    if temperature != 1:
        assert choices.calibration_error(1.0) > 5


def test_few_questions_move_the_temperature_little() -> None:
    assert fit_temperature(Choices(np.empty(0), np.empty(0, int), np.empty(0, int))) == 1
    few, many = (
        Choices(np.tile(np.log([0.6, 0.4]), n), np.arange(n) * 2, np.arange(n) * 2)
        for n in (3, 3000)
    )
    assert 0.5 < fit_temperature(few) < 1
    assert LOWEST < fit_temperature(many) < 0.2  # all are right: surer, yet not without bound


def test_an_impossible_truth_has_a_finite_loss() -> None:
    choices = Choices(np.array([0.0, -np.inf]), np.array([0]), np.array([1]))
    assert 1 < fit_temperature(choices) <= HIGHEST


def row(sample: str, level: int, logprobs: list[float] | None, **other: object) -> Prediction:
    children = tuple("abc"[: len(logprobs or ())])
    content: dict[str, object] = {
        "model": "base",
        "dataset": "birds",
        "paradigm": "open",
        "sample_id": sample,
        "level": level,
        "rank": f"level {level}",
        "options": children,
        "truth": "a",
        "prediction": "a",
        "option_logprobs": logprobs,
    }
    return Prediction(**(content | other))  # type: ignore[arg-type]


def rows() -> pa.Table:
    half, third = np.log(0.5), np.log([0.7, 0.2, 0.1]).tolist()
    return to_table(
        [
            row("1", 1, [half, half], path_logprob=half),
            row("1", 2, third, path_logprob=half + third[0]),
            row("2", 1, [0.0], path_logprob=0.0),
            row("2", 2, third, truth="x", path_logprob=third[0]),
            row("2", 3, None, path_logprob=third[0]),
        ]
    )


def test_questions_are_those_with_the_right_answer_among_several_children() -> None:
    choices = choices_by_level(rows())
    assert list(choices) == [1, 2]
    assert [len(choices[level]) for level in (1, 2)] == [1, 1]
    assert choices[2].logprobs[choices[2].truths] == pytest.approx([np.log(0.7)])
    assert choices[2].loss(1.0) == pytest.approx(-np.log(0.7))


def test_rows_are_scaled_level_by_level_and_down_their_paths() -> None:
    scaled = apply_temperatures(rows(), {2: 2.0})
    at_2 = scale(np.log([0.7, 0.2, 0.1]), 2.0)
    logprobs = scaled["option_logprobs"].to_pylist()
    np.testing.assert_allclose(logprobs[1], at_2, atol=1e-6)
    assert logprobs[0] == pytest.approx([np.log(0.5)] * 2)
    assert logprobs[4] is None
    expected = [np.log(0.5), np.log(0.5) + at_2[0], 0.0, at_2[0], at_2[0]]
    assert scaled["path_logprob"].to_pylist() == pytest.approx(expected, abs=1e-6)
    assert scaled.schema == rows().schema
    calibration = measure_calibration(scaled)
    assert calibration is not None


def test_a_temperature_of_one_changes_nothing() -> None:
    scaled = apply_temperatures(rows(), {1: 1.0, 2: 1.0, 3: 1.0})
    assert scaled["path_logprob"].to_pylist() == pytest.approx(rows()["path_logprob"].to_pylist())
