"""What cells come to together: the student beside the base, and the solver among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.cost import MeanCost
from sekd.analysis.summary import solve_options, summarize
from sekd.config import EvaluateSpec
from sekd.data.predictions import PREDICTION_SCHEMA
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

SPEC = EvaluateSpec(num_bootstrap=20)
RowsOf = Callable[[dict[str, str]], pa.Table]


def result(
    rows: pa.Table, tree: Taxonomy, model: str, paradigm: str, control: str = "none"
) -> CellRows:
    cost = MeanCost(1.0, 3.0, 0.0, 1.0, 1.0)
    return CellRows(CellKey("d", model, paradigm, control), tree, rows, 0, cost)


def test_the_student_is_compared_with_its_teacher_and_the_base(
    tree: Taxonomy, rows_of: Any
) -> None:
    right, wrong = rows_of({"1": "a: x a", "2": "c: y c"}), rows_of({"1": "a: x b", "2": "c: y c"})
    results = [
        result(wrong, tree, "base", "joint"),
        result(right, tree, "base", "conditioned"),
        result(right, tree, "student", "joint"),
        result(wrong, tree, "student", "conditioned"),
        result(wrong, tree, "student", "joint", "blind"),
        result(right, tree, "other", "joint"),
    ]
    found = {
        (each["a"]["paradigm"], each["b"]["paradigm"]): each["differences"]["hca"]["value"]
        for each in summarize(results, SPEC, tree).to_json()["comparisons"]
        if (each["dataset"], each["a"]["model"], each["b"]["model"]) == ("d", "student", "base")
    }
    assert found == {
        ("joint", "conditioned"): 0,
        ("joint", "joint"): 50,
        ("conditioned", "conditioned"): -50,
    }


def test_every_cell_is_scored_and_diagnosed(tree: Taxonomy, rows_of: Any) -> None:
    rows = rows_of({"1": "a: x b", "2": "c: y -"})
    content = summarize([result(rows, tree, "base", "joint")], SPEC, tree).to_json()
    (row,) = content["rows"]
    assert row["hca"]["value"] == 0
    assert row["parse_failure_rate"]["value"] == 50
    assert row["diagnosis"]["first_error"]["2"]["count"] == 2
    assert row["zero_shot"] is False
    assert row["cost"]["relative"] == {"tokens": 1.0, "seconds": 1.0, "unit": "joint"}
    assert content["comparisons"] == []


def test_zero_shot_is_a_taxonomy_with_nodes_that_were_not_learned(
    tree: Taxonomy, rows_of: Any
) -> None:
    """A part of what was learned is nothing new."""
    rows = rows_of({"1": "a: x b"})
    part = Taxonomy.from_paths({"a": ["r", "x", "a"], "b": ["r", "x", "b"]})
    more = Taxonomy.from_paths({"a": ["r", "x", "a"], "b": ["r", "x", "b"], "q": ["r", "q"]})
    marks = [
        summarize([result(rows, taxonomy, "base", "joint")], SPEC, tree).is_zero_shot("d")
        for taxonomy in (tree, part, more)
    ]
    assert marks == [False, False, True]


def test_a_cell_without_a_sample_is_named(tree: Taxonomy) -> None:
    empty = result(PREDICTION_SCHEMA.empty_table(), tree, "base", "joint")
    with pytest.raises(ConfigError, match="base d joint none: all 0 samples are quarantined"):
        summarize([empty], SPEC, tree)


def test_the_solver_sees_the_questions_of_the_models(seen: Dataset) -> None:
    solved = solve_options(seen, 0)
    assert set(solved.rows["control"].to_pylist()) == {"taxonomy"}
    assert len(solved.rows) == 12 * 4
    (row,) = summarize([solved], SPEC, seen.taxonomy).to_json()["rows"]
    assert (row["model"], row["paradigm"], row["control"]) == ("taxonomy", "options", "taxonomy")
    assert row["cost"] is None
    assert row["hca"]["value"] > 50  # random options give the path away
