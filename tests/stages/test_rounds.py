"""Rounds: what is a gain, when to stop, which student is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sekd.analysis.metrics import Estimate
from sekd.analysis.summary import CellRows
from sekd.config import EvaluateSpec, RunConfig
from sekd.data.predictions import Prediction, to_table
from sekd.data.taxonomy import Taxonomy
from sekd.stages.rounds import Gain, Round, best_of, gain_of, round_config, rounds_table

BIRDS = Taxonomy.from_paths({"gull": ["bird", "gull"], "tern": ["bird", "tern"]})
GULL, TERN = (BIRDS.leaf(name) for name in ("gull", "tern"))


def result(dataset: str, model: str, rights: Sequence[bool], control: str = "none") -> CellRows:
    """Joint answers about a gull each, right or a tern; samples are numbered."""
    names = {"model": model, "dataset": dataset, "paradigm": "joint", "control": control}
    rows = [
        Prediction(
            **names,
            sample_id=str(number),
            level=GULL.depth,
            rank="species",
            options=(GULL.id, TERN.id),
            truth=GULL.id,
            prediction=GULL.id if is_right else TERN.id,
            option_logprobs=None,
            reply="",
            rotation=0,
        )
        for number, is_right in enumerate(rights)
    ]
    return CellRows(names, BIRDS, to_table(rows), 0, None)


def test_a_gain_is_paired_and_pooled_over_images() -> None:
    """80 images gain 20 points, 20 images lose 50: together 6; where the two agree is no noise."""
    old = [result("a", "base", [True] * 40 + [False] * 40), result("b", "base", [True] * 20)]
    new = [
        result("a", "student", [True] * 56 + [False] * 24),
        result("a", "student", [False] * 80, control="blind"),
        result("b", "student", [False] * 10 + [True] * 10),
        result("b", "other", [True] * 20),
    ]
    gain = gain_of(new, old, "base", EvaluateSpec())
    assert gain.datasets["a"].value == pytest.approx(20)
    assert gain.datasets["b"].value == pytest.approx(-50)
    assert gain.pooled.value == pytest.approx(6)
    assert 11 < gain.datasets["a"].low < gain.datasets["a"].high < 29
    assert gain.is_noise
    assert not gain_of(new[:1], old, "base", EvaluateSpec()).is_noise
    same = gain_of(old_as_student(old), old, "base", EvaluateSpec())
    assert (same.pooled.low, same.pooled.high) == (0, 0)
    assert same.is_noise


def old_as_student(results: Sequence[CellRows]) -> list[CellRows]:
    return [
        CellRows({**each.names, "model": "student"}, each.taxonomy, each.rows, 0, None)
        for each in results
    ]


def test_only_images_that_both_have_count() -> None:
    old = [result("a", "student", [False] * 10)]
    new = [result("a", "student", [True] * 10 + [False] * 90)]
    assert gain_of(new, old, "student", EvaluateSpec()).pooled.value == 100


def a_round(number: int, low: float | None, value: float = 1.0) -> Round:
    estimate = Estimate(value, low, 2.0) if low is not None else None
    return Round(
        number=number,
        adapter=Path(f"round{number}") if number else None,
        joint={"a": Estimate(50.0, 40.0, 60.0)},
        conditioned={},
        gain=Gain(estimate, {"a": estimate}) if estimate else None,
    )


@pytest.mark.parametrize(
    ("lows", "best"), [([0.1], 1), ([0.1, -0.1], 1), ([0.0], 0), ([0.1, 0.2, -1.0], 2)]
)
def test_the_best_is_the_last_that_gained(lows: list[float], best: int) -> None:
    rounds = [a_round(0, None), *(a_round(number, low) for number, low in enumerate(lows, 1))]
    assert best_of(rounds).number == best


def test_unmeasured_rounds_are_taken_on_trust() -> None:
    rounds = [Round.of(number, Path(f"round{number}"), None, None) for number in (1, 2)]
    assert best_of(rounds).number == 2
    assert not rounds_table(rounds).has_figures


def test_the_table_shows_the_base_first() -> None:
    table = rounds_table([a_round(0, None), a_round(1, 0.1)])
    assert [row[:2] for row in table.rows] == [["a", 0], ["a", 1]]
    assert table.rows[0][-1] is None
    assert table.rows[1][-1] == Estimate(1.0, 0.1, 2.0)


def test_a_later_round_is_taught_by_and_goes_on_from_the_student_before(
    config: RunConfig, adapter: Path
) -> None:
    assert round_config(config, 1, None) is config
    second = round_config(config, 2, adapter)
    assert second.run_dir == config.run_dir / "rounds" / "2"
    assert second.elicit.adapter == second.distill.initial_adapter == adapter
    kept = {"run_dir", "elicit", "distill", "rounds"}
    assert second.model_dump(exclude=kept) == config.model_dump(exclude=kept)
    assert np.isclose(second.distill.learning_rate, config.distill.learning_rate)
