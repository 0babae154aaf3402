"""Rounds: what is a gain, when to stop, which student is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.estimates import Estimate
from sekd.analysis.rounds import Gain, RoundResult, best_round, measure_gain
from sekd.config import EvaluateSpec, RunConfig
from sekd.data.predictions import Prediction, to_table
from sekd.data.taxonomy import Taxonomy
from sekd.report.rounds import rounds_table
from sekd.stages.rounds import round_config

BIRDS = Taxonomy.from_paths({"gull": ["bird", "gull"], "tern": ["bird", "tern"]})
GULL, TERN = (BIRDS.leaf(name) for name in ("gull", "tern"))


def joint_cell(
    dataset: str,
    model: str,
    rights: Sequence[bool],
    control: str = "none",
    paradigm: str = "joint",
) -> CellRows:
    """Answers about one gull each: a gull where right, else a tern; samples are numbered."""
    key = CellKey(dataset, model, paradigm, control)
    rows = [
        Prediction(
            **key._asdict(),
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
    return CellRows(key, BIRDS, to_table(rows), 0, None)


def test_a_gain_is_paired_and_pooled_over_images() -> None:
    """80 images gain 20 points and 20 images lose 50, so all together gain 6."""
    old = [
        joint_cell("a", "base", [True] * 40 + [False] * 40),
        joint_cell("b", "base", [True] * 20),
    ]
    new = [
        joint_cell("a", "student", [True] * 56 + [False] * 24),
        joint_cell("a", "student", [False] * 80, control="blind"),
        joint_cell("b", "student", [False] * 10 + [True] * 10),
        joint_cell("b", "other", [True] * 20),
    ]
    gain = measure_gain(new, old, "base", EvaluateSpec())
    assert gain.datasets["a"].value == pytest.approx(20)
    assert gain.datasets["b"].value == pytest.approx(-50)
    assert gain.pooled.value == pytest.approx(6)
    assert 11 < gain.datasets["a"].low < gain.datasets["a"].high < 29
    assert gain.is_noise
    assert not measure_gain(new[:1], old, "base", EvaluateSpec()).is_noise
    same = measure_gain(old_as_student(old), old, "base", EvaluateSpec())
    assert same.pooled.value == 0
    assert same.pooled.low < 0 < same.pooled.high  # 100 equal pairs do not show that none differ
    assert same.is_noise


def test_students_that_name_gain_by_naming() -> None:
    old = [
        joint_cell("a", "base", [True] * 40),
        joint_cell("a", "base", [False] * 40, paradigm="open"),
    ]
    new = [
        joint_cell("a", "student", [False] * 40),
        joint_cell("a", "student", [True] * 30 + [False] * 10, paradigm="open"),
    ]
    assert measure_gain(new, old, "base", EvaluateSpec()).pooled.value == -100
    gain = measure_gain(new, old, "base", EvaluateSpec(), "open")
    assert gain.pooled.value == 75
    rates = {"a": Estimate(75.0, 60.0, 90.0)}
    results = [
        RoundResult(
            number=number,
            adapter=None,
            learned=rates,
            conditioned={},
            gain=gain if number else None,
            paradigm="open",
        )
        for number in range(2)
    ]
    assert results[1].to_json()["open"]["a"]["value"] == 75
    table = rounds_table(results)
    assert table.columns[2].key == "open"
    assert "gain: open, over" in table.title


def old_as_student(results: Sequence[CellRows]) -> list[CellRows]:
    return [
        CellRows(cell.key._replace(model="student"), cell.taxonomy, cell.rows, 0, None)
        for cell in results
    ]


def test_a_gain_is_over_the_images_that_both_have() -> None:
    old = [joint_cell("a", "student", [False] * 10)]
    new = [joint_cell("a", "student", [True] * 10 + [False] * 90)]
    assert measure_gain(new, old, "student", EvaluateSpec()).pooled.value == 100


def a_round(number: int, low: float | None, value: float = 1.0) -> RoundResult:
    estimate = Estimate(value, low, 2.0) if low is not None else None
    return RoundResult(
        number=number,
        adapter=Path(f"round{number}") if number else None,
        learned={"a": Estimate(50.0, 40.0, 60.0)},
        conditioned={},
        gain=Gain(estimate, {"a": estimate}) if estimate else None,
    )


@pytest.mark.parametrize(
    ("lows", "best"), [([0.1], 1), ([0.1, -0.1], 1), ([0.0], 0), ([0.1, 0.2, -1.0], 2)]
)
def test_the_best_round_is_the_last_that_gained(lows: list[float], best: int) -> None:
    rounds = [a_round(0, None), *(a_round(number, low) for number, low in enumerate(lows, 1))]
    assert best_round(rounds).number == best


def test_the_last_round_is_the_best_where_none_is_measured() -> None:
    rounds = [RoundResult.of(number, Path(f"round{number}"), None, None) for number in (1, 2)]
    assert best_round(rounds).number == 2
    assert not rounds_table(rounds).has_figures


def test_the_table_shows_the_base_first() -> None:
    table = rounds_table([a_round(0, None), a_round(1, 0.1)])
    assert [row[:2] for row in table.rows] == [["a", 0], ["a", 1]]
    assert table.rows[0][-1] is None
    assert table.rows[1][-1] == Estimate(1.0, 0.1, 2.0)


def test_a_later_round_uses_the_student_before_as_teacher_and_start(
    config: RunConfig, adapter: Path
) -> None:
    assert round_config(config, 1, None) is config
    second = round_config(config, 2, adapter)
    assert second.run_dir == config.run_dir / "rounds" / "2"
    assert second.elicit.adapter == second.distill.initial_adapter == adapter
    kept = {"run_dir", "elicit", "distill", "rounds"}
    assert second.model_dump(exclude=kept) == config.model_dump(exclude=kept)
    assert np.isclose(second.distill.learning_rate, config.distill.learning_rate)
